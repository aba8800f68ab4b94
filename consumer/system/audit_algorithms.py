"""
The advice about algorithms: ciphers, MACs, key exchange, signatures, and the host's own keys.

Source: OpenSSH's release notes (7.0, 7.4, 8.2, 8.8 and 10.0 say what it stopped to offer, and why), RFC 9142.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from consumer.keys.authorized_keys import parsed
from consumer.keys.sshd_config import Values
from consumer.store.recent_logins import LoginKind
from consumer.system.audit_row import AuditRow, Judged, Mend, SettingAdvice, Site
from consumer.text import counted

RSA_BITS = 2048
_HOST_KEY_LIMIT = 16 * 1024
_HOST_KEYS_LIMIT = 16

# Patterns of algorithms that can be broken today, and of those that are too old or too short to keep.
_BROKEN = {
    "ciphers": ("*-cbc", "arcfour*", "*-cbc@*", "none"),
    "macs": ("hmac-md5*", "none"),
    "kexalgorithms": ("diffie-hellman-group1-*", "gss-group1-*"),
    "hostkeyalgorithms": ("ssh-dss*",),
    "pubkeyacceptedalgorithms": ("ssh-dss*",),
}
_OLD: dict[str, tuple[str, ...]] = {
    "ciphers": (),
    "macs": ("hmac-sha1*", "umac-64*", "hmac-ripemd160*"),
    "kexalgorithms": ("*-sha1", "*-sha1-*"),
    "hostkeyalgorithms": ("ssh-rsa", "ssh-rsa-cert-*"),
    "pubkeyacceptedalgorithms": ("ssh-rsa", "ssh-rsa-cert-*"),
}
# For a list of which nothing would be left.
_GOOD = {
    "ciphers": "aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes128-ctr",
    "macs": "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com",
    "kexalgorithms": "curve25519-sha256,diffie-hellman-group16-sha512",
    "hostkeyalgorithms": "ssh-ed25519,rsa-sha2-512,rsa-sha2-256",
    "pubkeyacceptedalgorithms": "ssh-ed25519,rsa-sha2-512,rsa-sha2-256",
}


def _algorithms(keyword: str, site: Site) -> Judged | None:
    """Judge a list of algorithms; None if its default is not known here."""
    name = keyword.lower()
    written = site.values.get(name)
    if written is None or written[0][:1] in ("+", "-", "^"):
        return None
    offered = [algorithm for algorithm in written[0].split(",") if algorithm]
    broken = [one for one in offered if _fits_any(one, _BROKEN[name])]
    weak = broken + [one for one in offered if one not in broken and _fits_any(one, _OLD[name])]
    if not weak:
        return Judged("ok", f"{keyword}: no weak ones")
    rest = ",".join(one for one in offered if one not in weak) or _GOOD[name]
    prevents = _is_by_dsa if name == "pubkeyacceptedalgorithms" and broken else None
    return Judged("fault" if broken else "warning", f"{keyword} {', '.join(weak)}", (f"{keyword} {rest}",), prevents)


def _fits_any(algorithm: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(algorithm, pattern) for pattern in patterns)


def _is_by_dsa(login: LoginKind) -> bool:
    return (login.info or "").startswith(("DSA ", "DSA-CERT "))


def _rsa_size(site: Site) -> Judged | None:
    if "requiredrsasize" not in site.values:
        return None  # before OpenSSH 9.1
    found = site.number("requiredrsasize")
    if found >= RSA_BITS:
        return Judged("ok", f"RequiredRSASize {found}")
    # Which keys are too short stands in the rows of old keys.
    return Judged("warning", f"RequiredRSASize {found}", (f"RequiredRSASize {RSA_BITS}",))


ALGORITHM_ADVICE = (
    *(
        SettingAdvice(name, (keyword.lower(),), why, partial(_algorithms, keyword))
        for name, keyword, why in (
            ("ciphers", "Ciphers", "Part of a session's text can be read if its cipher is broken."),
            ("MACs", "MACs", "A session can be changed on its way if its MAC is weak."),
            ("key exchange", "KexAlgorithms", "A session that is recorded today can be read later if its key exchange is weak."),
            ("host keys", "HostKeyAlgorithms", "An attacker can pretend to be this host if a SHA-1 or DSA signature is enough."),
            ("signatures", "PubkeyAcceptedAlgorithms", "An attacker can forge a user's signature if it is a SHA-1 or DSA one."),
        )
    ),
    SettingAdvice(
        "RSA keys", ("requiredrsasize",), "RSA keys under 2,048 bits are in reach of a state or a large company.", _rsa_size,
    ),
)  # fmt: skip


def host_key_rows(values: Values) -> Iterator[AuditRow]:
    """Yield a row for each weak key of the host. Its public half is readable by everybody."""
    weak = False
    for path in values.get("hostkey", [])[:_HOST_KEYS_LIMIT]:
        try:
            with Path(f"{path}.pub").open("rb") as file:
                text = file.read(_HOST_KEY_LIMIT)
        except OSError:
            continue  # the private half may be in an agent
        for key in parsed(text):
            is_dsa = key.type == "ssh-dss"
            if is_dsa or 0 < key.bits < RSA_BITS:
                weak = True
                kind = "DSA" if is_dsa else f"RSA with {key.bits:,} bits"
                why = "An attacker who breaks the key of this host can pretend to be this host."
                mend = Mend(f"ssh-keygen -q -t ed25519 -N '' -f {path}", f"as a command, after you have moved {path} away")
                yield AuditRow("host key", "fault", f"{path}: {kind}", why, [mend], None)
    if not weak and values.get("hostkey"):
        yield AuditRow("host key", "ok", f"{counted(len(values['hostkey']), 'host key')}, none of them weak")
