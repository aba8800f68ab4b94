"""The check of sshd's log settings."""

from collections.abc import Iterator

from consumer.keys.sshd_config import DEFAULT_CONFIG, SshdConfig
from consumer.system.outcome import Outcome, fault, ok, warning

_NO_SSHD = "nothing to do if this host only receives other hosts' lines, or if it uses dropbear"
_SSHD_CONFIG = DEFAULT_CONFIG
# sshd logs logins at INFO and above. Debian's sshd -T prints SILENT for QUIET.
_SILENT = {"SILENT", "QUIET", "FATAL", "ERROR"}


def sshd(catch_up: str) -> Iterator[Outcome]:
    """Check that sshd logs logins, and that the file ``catch_up`` may have them; "" means no file."""
    config = SshdConfig(_SSHD_CONFIG)
    if not config.is_there:
        yield warning(f"neither sshd nor {_SSHD_CONFIG} exists", _NO_SSHD)
        return
    # If sshd -T does not work, sshbell reads the configuration files, which omit the defaults.
    values = {"loglevel": ["INFO"], "syslogfacility": ["AUTH"]} | config.values()
    level, facility = (values[name][0].upper() for name in ("loglevel", "syslogfacility"))
    if level in _SILENT:
        yield fault(f"LogLevel {level}: sshd does not log who logs in",
                     f"set in {_SSHD_CONFIG}: LogLevel VERBOSE; then restart sshd")  # fmt: skip
    elif facility not in {"AUTH", "AUTHPRIV"} and catch_up:
        yield warning(f"SyslogFacility {facility}: {catch_up} may not have its lines",
                     f"if so, set catch_up, or set SyslogFacility AUTH in {_SSHD_CONFIG}")  # fmt: skip
    else:
        more = "" if level != "INFO" else "; with VERBOSE sshbell learns more, such as the key before a second factor"
        yield ok(f"LogLevel {level}, SyslogFacility {facility}{more}")
