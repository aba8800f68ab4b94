"""``sshbell completion``."""

import click


@click.command(short_help="Print a script that completes commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print a script that completes sshbell's commands and options in SHELL.

    \b
        echo 'eval "$(sshbell completion bash)"' >> ~/.bashrc
        echo 'autoload -Uz compinit && compinit; eval "$(sshbell completion zsh)"' >> ~/.zshrc
        mkdir -p ~/.config/fish/completions
        sshbell completion fish > ~/.config/fish/completions/sshbell.fish
    """
    from click.shell_completion import get_completion_class

    from consumer.cli import main

    found = get_completion_class(shell)
    if found is not None:
        click.echo(found(main, {}, "sshbell", "_SSHBELL_COMPLETE").source())
