"""``sshbell geoip``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import CONFIG
from consumer.errors import InputError, SshbellError, UsageError, complain, end_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.ecs import SourceFields
    from consumer.places.geoip import Places
    from consumer.places.wanted_database import WantedDatabase

# In cells, a column of the table; the longest IPv6 address takes 39.
_WIDEST = 48
_EDITIONS = 'from DB-IP "city", "country" or "asn"; from MaxMind "GeoLite2-City" and so on'


class _Geoip(click.Group):
    """A group that takes addresses in place of a verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the verb ``show`` before addresses."""
        known = {"fetch", *self.get_help_option_names(ctx)}
        return super().parse_args(ctx, args if not args or args[0] in known else ["show", *args])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Also show the options for addresses without a verb."""
        with formatter.section("Options with ADDRESS"):
            options = [parameter for parameter in show.params if isinstance(parameter, click.Option)]
            formatter.write_dl([record for option in options if (record := option.get_help_record(ctx)) is not None])
        super().format_options(ctx, formatter)


@click.group(cls=_Geoip, short_help="Show the places of addresses; download databases.", no_args_is_help=True,
             subcommand_metavar="ADDRESS... | fetch [OPTIONS]")  # fmt: skip
def geoip() -> None:
    """
    Show where addresses are and which networks they belong to. Download the databases for this.

    \b
        sshbell geoip 203.0.113.7 2001:db8::1
        sshbell geoip --json 203.0.113.7
        sudo sshbell geoip fetch
    """


@geoip.command(hidden=True, options_metavar="[--json] [--config FILE]")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (Elastic Common Schema) per line.")
@CONFIG
def show(addresses: tuple[str, ...], config: str | None, *, as_json: bool) -> None:
    """Show the places of addresses."""
    from consumer.addresses import ip_of
    from consumer.config_file import load
    from consumer.ecs import EcsEvent, SourceFields, json_line
    from consumer.places.geoip import Places

    for address in addresses:
        if ip_of(address) is None:
            raise UsageError(f"{address!r} is not an address; give 203.0.113.7 or 2001:db8::1, or: sshbell geoip fetch")
    settings = load(config)
    places = Places(settings.geoip, lambda fault: complain(InputError(fault)), many=len(addresses) > 1000)
    if as_json:
        for address in addresses:
            event = EcsEvent(source=SourceFields(ip=str(ip_of(address)), address=address))
            sys.stdout.buffer.write(json_line(places.add(event)))
    else:
        for row in _table([("address", "place", "network", "what"), *((one, *_cells(places.of(one))) for one in addresses)]):
            click.echo(row)
    sys.stdout.flush()
    _report_databases(places, settings.geoip)


def _report_databases(places: "Places", geoip: "list[str] | str") -> None:
    """Report on standard error where the places come from."""
    from consumer.text import harmless

    if not places.databases and geoip == "web":
        click.echo('geoip = "web": only messages get places; to test the web service: sudo sshbell check --connect', err=True)
    elif not geoip:
        click.echo("geoip = []: sshbell uses no databases; to use them, delete that key from the configuration", err=True)
    elif not places.databases:
        click.echo("no database; to download one: sudo sshbell geoip fetch", err=True)
    for database in places.databases:
        made = f", {database.built:%Y-%m-%d}" if database.built else ""
        click.echo(harmless(f"from {database.path} ({database.type}{made})"), err=True)


def _cells(found: "SourceFields") -> tuple[str, str, str]:
    geo, network = found.geo, found.as_
    country = " ".join(filter(None, (geo.country_iso_code, geo.country_name)))
    where = ", ".join(filter(None, (geo.city_name, geo.region_name, country)))
    number = "" if network.number is None else f"AS{network.number} {network.organization.name or ''}".rstrip()
    return where, number, ", ".join(filter(None, (geo.name, *found.anonymous)))


def _table(rows: "list[tuple[str, ...]]") -> "Iterator[str]":
    """Yield the rows with columns as wide as their texts; a text longer than the limit moves only its own row."""
    from consumer.show.columns import Column, cells_of, row_of, unbounded
    from consumer.text import harmless

    shown = [[harmless(cell) for cell in row] for row in rows]
    cells = [min(max(map(cells_of, texts)), _WIDEST) for texts in zip(*shown, strict=True)]
    columns = [Column(head, head, width, width) for head, width in zip(shown[0], cells, strict=True)]
    for *texts, last in shown:
        yield row_of(unbounded(columns[:-1]), texts, last)


@geoip.command(short_help="Download databases.")
@click.option(
    "--edition", "editions", multiple=True, metavar="NAME", help=f"Database to download: {_EDITIONS}; by default city and ASN."
)
@click.option("--maxmind-account", metavar="ID", help="Download from MaxMind, with this account.")
@click.option("--maxmind-key", metavar="FILE", type=click.Path(dir_okay=False), help="File with the account's licence key.")
@click.option("--url", metavar="URL", help="Download this .mmdb file: plain, gzipped, or in a .tar.gz.")
@click.option("--server", metavar="URL", help="Mirror of DB-IP's or MaxMind's server, with the same paths.")
@click.option(
    "--to", metavar="DIRECTORY", type=click.Path(file_okay=False), help="Directory for databases; by default geoip in state_dir."
)
@click.option("--quiet", is_flag=True, help="Print nothing except errors, for cron.")
@CONFIG
def fetch(editions: tuple[str, ...], maxmind_account: str | None, maxmind_key: str | None, url: str | None, server: str | None,
          to: str | None, config: str | None, *, quiet: bool) -> None:  # fmt: skip
    """
    Download databases, verify them, and replace the old ones.

    The default is DB-IP's free databases, which need no account. If anything fails, the old ones stay. sshbell does not download
    unchanged databases again, so you can run this daily. A running sshbell uses new databases within seconds.

    \b
        sudo sshbell geoip fetch
        sudo sshbell geoip fetch --quiet \\
            --maxmind-account 123456 --maxmind-key /etc/sshbell/maxmind.key
        sudo sshbell geoip fetch --url https://mirror.example.org/country.mmdb.gz
    """
    from consumer.config_file import load
    from consumer.config_values import Secret
    from consumer.places.fetch import check_folder, fetched
    from consumer.places.wanted_database import of_dbip, of_maxmind, of_url
    from consumer.process.privileges import become, guard
    from consumer.secret import read_secret

    if url is not None and (editions or server or maxmind_account or maxmind_key):
        raise UsageError("--url excludes --edition, --server and --maxmind-...")
    if (maxmind_account is None) != (maxmind_key is None) or maxmind_key == "":
        raise UsageError("MaxMind needs both --maxmind-account ID and --maxmind-key FILE")
    settings = load(config)
    # Never read data from the network as root.
    become(settings.user)
    if url is not None:
        wanted = [of_url(url)]
    elif maxmind_account is not None:
        wanted = of_maxmind(editions, maxmind_account, read_secret(Secret(file=maxmind_key or "")), server)
    else:
        wanted = of_dbip(editions, server)
    folder = Path(to) if to is not None else Path(settings.state_dir, "geoip")
    if to is None:
        _make(folder)
    check_folder(folder)
    guard(folder)
    errors: list[SshbellError] = []
    for database in wanted:
        try:
            done = fetched(database, folder, _progress(database) if not quiet and sys.stderr.isatty() else _silent)
        except SshbellError as error:
            errors.append(error)
            continue
        if not quiet:
            click.echo(done)
    if not errors and not quiet:
        _report_unread(folder, wanted, settings.geoip)
    end_with(errors)


def _make(folder: Path) -> None:
    from consumer.errors import OutputError

    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: {error.strerror}; give another directory with --to, or run first: sudo sshbell install"
        ) from error


def _report_unread(folder: Path, wanted: "list[WantedDatabase]", patterns: "list[str] | str") -> None:
    """Report databases that the configuration does not name."""
    from glob import glob

    if isinstance(patterns, str):
        click.echo('note: geoip = "web" uses the web service; to use databases, delete that key from the configuration', err=True)
        return
    read = {path for pattern in patterns for path in glob(pattern)}  # noqa: PTH207 - Path's takes no absolute one
    if any(str(folder.absolute() / database.name) not in read for database in wanted):
        click.echo(f'note: the key geoip does not name these databases; add to it: "{folder.absolute()}/*.mmdb"', err=True)


def _silent(_received: int, _total: int | None) -> None:
    pass


def _progress(wanted: "WantedDatabase") -> "Callable[[int, int | None], None]":
    bar: Any = None

    def to(received: int, total: int | None) -> None:
        nonlocal bar
        if bar is None:
            bar = click.progressbar(length=total or 0, label=wanted.name, file=sys.stderr)
        if total:
            bar.update(received - bar.pos)
            if received >= total:
                bar.render_finish()

    return to
