"""``sshbell completion``."""

import click


@click.command(short_help="Print a completion script for your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """
    Print a script that lets SHELL complete sshbell's commands and options.

    \b
        echo 'eval "$(sshbell completion bash)"' >> ~/.bashrc
        echo 'autoload -Uz compinit && compinit' >> ~/.zshrc
        echo 'eval "$(sshbell completion zsh)"' >> ~/.zshrc
        mkdir -p ~/.config/fish/completions
        sshbell completion fish > ~/.config/fish/completions/sshbell.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is not None:
        click.echo(found(context.find_root().command, {}, "sshbell", "_SSHBELL_COMPLETE").source())
