"""``sshbell pam try``."""

import click

from consumer.commands.options import CONFIG
from consumer.errors import RightsError, UsageError

# Nobody got in.
_REFUSED = 1


@click.command("try", short_help="Try a code on this terminal, without a login.")
@click.argument("user", metavar="USER")
@click.option("--service", metavar="NAME", default="sshd", show_default=True, help="PAM's service, for the rules of [codes].")
@click.option(
    "--from", "address", metavar="ADDRESS", default="", help="The address the user comes from, for the rules and the message."
)
@CONFIG
@click.pass_context
def try_(context: click.Context, user: str, service: str, address: str, config: str | None) -> None:
    """
    Run the whole exchange on this terminal: send a code to USER, ask for it, and check it.

    Nobody logs in, and neither sshd nor PAM takes part: "sshbell pam check" looks at those. The code travels as at a login, and
    counts towards the limits on prompts and tries. The lines for the log also appear here. The exit code is 1 if the code is
    wrong.

    \b
        sudo sshbell pam try alice
        sudo sshbell pam try alice --from 192.0.2.7
    """
    import os
    import sys

    from consumer.codes import log_lines
    from consumer.codes.challenge import Challenger
    from consumer.codes.pam_login import NoLoginError, pam_login
    from consumer.codes.settings import settings_of
    from consumer.codes.verify import Verifier
    from consumer.process.core_files import forbid_core
    from consumer.state_dir import DEFAULT_PATH, codes_dir_of
    from consumer.store.codes import CodeStore

    if os.geteuid() != 0:
        raise RightsError("only root can do this; run it again with sudo")
    forbid_core()
    os.umask(0o077)
    try:
        variables = {"PAM_TYPE": "auth", "PAM_USER": user, "PAM_RHOST": address, "PAM_SERVICE": service}
        login = pam_login(variables, os.getpid())
    except NoLoginError as error:
        raise UsageError(str(error)) from error
    login = login._replace(asker=log_lines.Asker(log_lines.TRY, login.pid, user, address))
    log_lines.show()
    settings = settings_of(config or DEFAULT_PATH)
    store = CodeStore(codes_dir_of(settings.state_dir))
    prompt = Challenger(settings, login, store).prompt()
    if not prompt:
        click.echo(f"refused: {user} would not get in", err=True)
        context.exit(_REFUSED)
    verifier = Verifier(settings.codes, login, store)
    click.echo(prompt)
    # A code that is not needed passes without an answer, as in the PAM lines of docs/codes.md.
    is_right = verifier.is_right(b"")
    while not is_right:
        typed = click.prompt("Password", default="", show_default=False, hide_input=sys.stdin.isatty())
        if not typed:
            break
        is_right = verifier.is_right(typed.encode("utf-8", "surrogateescape"))
        if not is_right and not (prompt := Challenger(settings, login, store).prompt()):
            break
        if not is_right:
            click.echo(prompt)
    click.echo(f"right: {user} would get in" if is_right else f"refused: {user} would not get in", err=True)
    context.exit(0 if is_right else _REFUSED)
