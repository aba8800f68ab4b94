"""``sshbell template``."""

from typing import TYPE_CHECKING

import click

from consumer.commands.options import CONFIG, in_color
from consumer.config_values import LANGUAGES
from consumer.errors import InputError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.deliver.template_preview import TemplateFile


@click.group(short_help="Show the templates of messages, and try your own.")
def template() -> None:
    """
    Show the templates of messages, and try your own.

    A template of yours in /etc/sshbell/templates replaces the built-in one of the same name.

    \b
        cd /etc/sshbell/templates
        sudo sshbell template show message.chat.j2 > message.chat.j2
        sudo sshbell template preview message.chat.j2
    """


def _complete(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from consumer.deliver.rendering import TEMPLATES

    return [name for name in TEMPLATES if name.startswith(begun)]


_NAME = click.argument("name", shell_complete=_complete)


@template.command("list", short_help="List the templates, and which of them are yours.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per template, for programs.")
@CONFIG
def list_templates(config: str | None, *, as_json: bool) -> None:
    """
    List the templates, and the file of each that is in use.

    \b
        sudo sshbell template list
    """
    import json

    from consumer.deliver.template_preview import templates_in
    from consumer.show.columns import filled, painted
    from consumer.text import harmless

    found = templates_in(_own_folder(config))
    if as_json:
        for each in found:
            click.echo(json.dumps({"template": each.name, "file": str(each.path), "own": each.is_own}))
        return
    width = max(len(each.name) for each in found)
    on = in_color()
    click.echo(painted(f"{filled('template', width)}  file", bold=True, on=on))
    for each in found:
        path = harmless(str(each.path)) if each.is_own else "built in"
        click.echo(f"{filled(each.name, width)}  {painted(path, 'green' if each.is_own else '', on=on)}")


@template.command(short_help="Print the template in use.")
@_NAME
@CONFIG
def show(name: str, config: str | None) -> None:
    """
    Print the template in use: your own, or else the built-in one. Begin your own template with this text.

    \b
        sudo sshbell template show message.txt.j2
    """
    found = _template(name, _own_folder(config))
    try:
        text = found.path.read_bytes()
    except OSError as error:
        raise InputError(f"{found.path}: {error.strerror}") from error
    click.echo(text, nl=False)


@template.command(short_help="Print what a template makes of a login.")
@_NAME
@click.option(
    "--like",
    metavar="WORDS",
    default="user=deploy host=web1 ip=203.0.113.7 method=password",
    help='Another event: event=guessing ip=203.0.113.9 host=web1; "sshbell route --help" lists the words.',
)
@click.option("--timezone", metavar="ZONE", default="", help="Zone of the times, by default this machine's.")
@click.option("--language", type=click.Choice(LANGUAGES), default="en", help="Language of the message.")
@CONFIG
def preview(name: str, like: str, timezone: str, language: str, config: str | None) -> None:
    """
    Print what a template makes of a made-up login, or of the event in --like. It sends nothing. A broken template is an error.

    \b
        sudo sshbell template preview message.chat.j2
        sudo sshbell template preview message.html.j2 > mail.html
        sudo sshbell template preview digest.txt.j2 --language de
    """
    from zoneinfo import ZoneInfo

    from consumer.deliver.rendering import TEMPLATES, Renderer
    from consumer.deliver.template_preview import preview_of
    from consumer.errors import DataError

    own = _own_folder(config)
    _template(name, own)
    if name not in TEMPLATES:
        raise UsageError(f"{name} is a part of other templates; preview one of {', '.join(TEMPLATES)}")
    try:
        ZoneInfo(timezone or "UTC")
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(f"--timezone: {timezone!r} is unknown here") from error
    faults: list[str] = []
    try:
        text = preview_of(name, Renderer(own, faults.append), like, timezone, language)
    except ValueError as error:
        raise UsageError(f"--like: {error}") from error
    click.echo(text)
    if faults:
        raise DataError("; ".join(faults))


def _own_folder(config: str | None) -> "Path":
    from pathlib import Path

    from consumer.state_dir import DEFAULT_PATH

    return Path(config or DEFAULT_PATH).parent / "templates"


def _template(name: str, own: "Path") -> "TemplateFile":
    from consumer.deliver.template_preview import templates_in

    found = {each.name: each for each in templates_in(own)}
    if name not in found:
        raise UsageError(f"there is no template {name!r}; the templates are {', '.join(found)}")
    return found[name]
