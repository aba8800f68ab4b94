"""The advice about sshd's settings. Each function judges one row."""

import pwd
import re
from functools import partial

from consumer.store.recent_logins import LoginKind
from consumer.system.audit_row import Judged, SettingAdvice, Site, affected, is_by_password, no_login
from consumer.system.code_stack import is_half
from consumer.system.pam_stack import PamEntry
from consumer.text import counted, listed, quoted

MAX_TRIES = 4
_MAX_TRIES_WITH_ABL = 3
_GRACE_S, _GRACE_ADVISED_S = 120, 60
_STARTUPS = 100
# Accounts that a text names.
_NAMED = 5
# A longer AllowUsers is hard to keep right, so a group serves better.
_ALLOWED_NAMES = 20
# A name that means itself in AllowUsers, where "*", "?", "!" and "@" have a meaning.
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_SILENT = frozenset({"silent", "quiet", "fatal", "error"})
# Modules that ask for a second factor.
SECOND_FACTORS = (
    "pam_google_authenticator", "pam_oath", "pam_duo", "pam_yubico", "pam_u2f", "pam_otpw", "pam_radius_auth", "pam_privacyidea",
)  # fmt: skip
_KEY_METHODS = frozenset({"publickey", "hostbased", "gssapi-with-mic", "gssapi-keyex"})


def _root_login(site: Site) -> Judged:
    found = site.value("permitrootlogin")
    if found == "yes":
        if site.lets_in_by_password():
            text = "PermitRootLogin yes: root may log in with a password"
            return Judged("fault", text, ("PermitRootLogin prohibit-password",),
                          lambda login: login.user == "root" and is_by_password(login))  # fmt: skip
        return Judged("warning", "PermitRootLogin yes", ("PermitRootLogin no",), _is_root)
    if found in ("without-password", "prohibit-password"):
        return Judged("warning", "PermitRootLogin prohibit-password", ("PermitRootLogin no",), _is_root)
    return Judged("ok", f"PermitRootLogin {found}")


def _is_root(login: LoginKind) -> bool:
    return login.user == "root"


def _passwords(site: Site) -> Judged:
    if not site.lets_in_by_password():
        return Judged("ok", "no password is enough to log in")
    names = [name for name, keyword in (
        ("PasswordAuthentication", "passwordauthentication"), ("KbdInteractiveAuthentication", "kbdinteractiveauthentication"),
    ) if site.value(keyword) == "yes"]  # fmt: skip
    used = affected(site.logins, is_by_password).most_common(_NAMED)
    text = f"{' and '.join(names)} yes"
    if used:
        text += f"; in use by {listed([f'{quoted(name)} ({count:,})' for name, count in used])}"
    if _second_factors(site):
        # The second factor is a question of PAM, so keyboard-interactive has to stay.
        return Judged("warning", text, ("AuthenticationMethods publickey,keyboard-interactive:pam",), is_by_password)
    return Judged("warning", text, tuple(f"{name} no" for name in names), is_by_password)


def _empty_passwords(site: Site) -> Judged:
    if site.value("permitemptypasswords") != "yes":
        return Judged("ok", "PermitEmptyPasswords no")
    # OpenSSH accepts an empty password as the method "none", before it asks for any.
    return Judged("fault", "PermitEmptyPasswords yes", ("PermitEmptyPasswords no",), lambda login: login.methods == ["none"])


def _max_tries(site: Site) -> Judged:
    found = site.number("maxauthtries")
    if found <= MAX_TRIES:
        return Judged("ok", f"MaxAuthTries {found}")
    text = f"MaxAuthTries {found} (refused keys of an agent count, too; the log does not show them)"
    return Judged("warning", text, (f"MaxAuthTries {MAX_TRIES}",), lambda login: login.failed >= MAX_TRIES)


def _pam_abl(site: Site) -> Judged | None:
    found = site.number("maxauthtries")
    if not site.modules("pam_abl"):
        return None
    text = f"pam_abl with MaxAuthTries {found}"
    if found <= _MAX_TRIES_WITH_ABL:
        return Judged("ok", text)
    lines = (f"MaxAuthTries {_MAX_TRIES_WITH_ABL}",)
    return Judged("warning", text, lines, lambda login: login.failed >= _MAX_TRIES_WITH_ABL)


def _grace_time(site: Site) -> Judged:
    found = site.number("logingracetime")
    if 0 < found <= _GRACE_S:
        return Judged("ok", f"LoginGraceTime {found}")
    text = "LoginGraceTime 0: no limit" if found == 0 else f"LoginGraceTime {found}"
    return Judged("warning", text, (f"LoginGraceTime {_GRACE_ADVISED_S}",), lambda login: login.took_s > _GRACE_ADVISED_S)


def _max_startups(site: Site) -> Judged:
    written = site.value("maxstartups")
    found = [int(part) if part.isdecimal() and len(part) < 10 else 0 for part in written.split(":")]
    if found[-1] <= _STARTUPS:
        return Judged("ok", f"MaxStartups {written}")
    return Judged("warning", f"MaxStartups {written}", (f"MaxStartups 10:30:{_STARTUPS}",))


def _allowed(site: Site) -> Judged:
    lists = [name for name in ("AllowUsers", "AllowGroups") if name.lower() in site.values]
    if lists:
        return Judged("ok", "; ".join(f"{name} {' '.join(site.values[name.lower()])}" for name in lists))
    users = affected(site.logins, lambda _login: True)
    names = sorted(name for name in users if _PLAIN_NAME.fullmatch(name) and _exists(name))
    if 0 < len(names) <= _ALLOWED_NAMES:
        known = frozenset(names)
        return Judged("warning", "every account may log in", (f"AllowUsers {' '.join(names)}",),
                      lambda login: login.user not in known)  # fmt: skip
    text = f"every account may log in; {counted(len(names), 'account')} did" if names else "every account may log in"
    # Until the accounts are in the group, it lets nobody in.
    return Judged("warning", text, ("AllowGroups ssh-users",), lambda _login: True)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _off(keyword: str, site: Site) -> Judged:
    """Judge a kind of forwarding. sshd does not log what a session forwards."""
    if site.value("disableforwarding") == "yes":
        return Judged("ok", "DisableForwarding yes")
    found = site.value(keyword.lower())
    return Judged("ok", f"{keyword} no") if found == "no" else Judged("warning", f"{keyword} {found}", (f"{keyword} no",))


def _log_level(site: Site) -> Judged:
    found = site.value("loglevel")
    chains = " ".join(site.values.get("authenticationmethods", [])).lower()
    if found in _SILENT:
        text = f"LogLevel {found.upper()}: sshd does not log who logs in"
        return Judged("fault", text, ("LogLevel VERBOSE",), no_login)
    if found == "info" and "publickey," in chains:
        text = "LogLevel INFO: sshd does not log the key of a login with several factors"
        return Judged("warning", text, ("LogLevel VERBOSE",), no_login)
    return Judged("ok", f"LogLevel {found.upper()}")


def _user_rc(site: Site) -> Judged:
    if site.value("permituserrc") == "no":
        return Judged("ok", "PermitUserRC no")
    return Judged("warning", "PermitUserRC yes", ("PermitUserRC no",), no_login)


def _user_environment(site: Site) -> Judged:
    found = site.value("permituserenvironment")
    if found == "no":
        return Judged("ok", "PermitUserEnvironment no")
    return Judged("fault", f"PermitUserEnvironment {found}", ("PermitUserEnvironment no",), no_login)


def _strict_modes(site: Site) -> Judged:
    if site.value("strictmodes") == "yes":
        return Judged("ok", "StrictModes yes")
    # It refuses keys in files that others can write. The log does not show the files.
    return Judged("fault", "StrictModes no", ("StrictModes yes",))


def _use_pam(site: Site) -> Judged | None:
    if site.value("usepam") == "yes":
        return Judged("ok", "UsePAM yes")
    if not site.pam:
        return None  # a system without PAM, such as Alpine
    return Judged("warning", "UsePAM no", ("UsePAM yes",))


def _second_factors(site: Site) -> list[PamEntry]:
    """Return the lines of PAM that ask for a second factor: those of modules, and of sshbell's one-time codes."""
    return [*site.modules(*SECOND_FACTORS), *(entry for entry in site.modules("pam_exec") if is_half(entry, "verify"))]


def _second_factor(site: Site) -> Judged:
    modules = _second_factors(site)
    chains = [chain for way in site.values.get("authenticationmethods", []) for chain in way.lower().split()]
    is_demanded = any("," in chain for chain in chains)
    if not modules and not is_demanded:
        return Judged("ok", "no second factor is configured")
    if modules and site.value("kbdinteractiveauthentication") != "yes":
        text = f"{modules[0].module} cannot ask its question: KbdInteractiveAuthentication no"
        return Judged("fault", text, ("KbdInteractiveAuthentication yes",), no_login)
    if modules and (lenient := [entry for entry in modules if "nullok" in entry.arguments]):
        text = f"{lenient[0].module} nullok lets in accounts that have not set it up"
        return Judged("warning", text, (" ".join(lenient[0].text.split()).replace(" nullok", ""),), None, lenient[0].place)
    single = [chain for chain in chains if "," not in chain] if chains not in ([], ["any"]) else ["any"]
    if single == ["any"] or any(chain.partition(":")[0] in _KEY_METHODS for chain in single):
        way = modules[0].module if modules else next(chain for chain in chains if "," in chain)
        text = f"a key alone is enough to log in, without {way}"
        return Judged("warning", text, ("AuthenticationMethods publickey,keyboard-interactive:pam",), _is_by_key_alone)
    return Judged("ok", f"AuthenticationMethods {' '.join(chains)}")


def _is_by_key_alone(login: LoginKind) -> bool:
    return len(login.methods) == 1 and login.methods[0] in _KEY_METHODS


SETTING_ADVICE = (
    SettingAdvice(
        "root login", ("permitrootlogin", "passwordauthentication", "kbdinteractiveauthentication", "authenticationmethods"),
        "Every guesser knows the name root, and a login as root does not show which person it was.", _root_login,
    ),
    SettingAdvice(
        "passwords", ("passwordauthentication", "kbdinteractiveauthentication", "authenticationmethods", "usepam"),
        "Strangers can guess a password, but not a key.", _passwords,
    ),
    SettingAdvice(
        "empty passwords", ("permitemptypasswords",),
        "Anybody who knows the name of an account without a password can log in to it.", _empty_passwords,
    ),
    SettingAdvice(
        "second factor", ("authenticationmethods", "kbdinteractiveauthentication", "usepam"),
        "A second factor protects an account only if sshd never lets anybody in without it.", _second_factor,
    ),
    SettingAdvice(
        "MaxAuthTries", ("maxauthtries",), "Each connection may guess that many times before sshd closes it.", _max_tries,
    ),
    SettingAdvice(
        "pam_abl", ("maxauthtries", "usepam"),
        "pam_abl records the failed tries of a connection only when sshd closes its PAM handle, so each open connection may guess"
        " MaxAuthTries times before a rule counts it.", _pam_abl,
    ),
    SettingAdvice(
        "LoginGraceTime", ("logingracetime",),
        "A stranger who never logs in occupies a process of sshd for that long.", _grace_time,
    ),
    SettingAdvice(
        "MaxStartups", ("maxstartups",),
        "It limits how many connections strangers can keep open before they log in.", _max_startups,
    ),
    SettingAdvice(
        "AllowUsers", ("allowusers", "allowgroups"),
        "Without a list, an account that a package or an attacker creates may log in, too.", _allowed,
    ),
    SettingAdvice(
        "TCP forwarding", ("allowtcpforwarding", "disableforwarding"),
        "A user can reach every server that this host can reach, past the firewall in front of it.",
        partial(_off, "AllowTcpForwarding"),
    ),
    SettingAdvice(
        "agent forwarding", ("allowagentforwarding", "disableforwarding"),
        "While a user is logged in, root on this host can use the keys in the user's agent.",
        partial(_off, "AllowAgentForwarding"),
    ),
    SettingAdvice(
        "X11 forwarding", ("x11forwarding", "disableforwarding"),
        "Root on this host can read the keyboard and the screen of a user who forwards X11.",
        partial(_off, "X11Forwarding"),
    ),
    SettingAdvice(
        "GatewayPorts", ("gatewayports", "disableforwarding"),
        "A port that a user forwards is open to every host, not to this one alone.", partial(_off, "GatewayPorts"),
    ),
    SettingAdvice(
        "PermitTunnel", ("permittunnel", "disableforwarding"),
        "A user with the rights to do so can join two networks through this host.", partial(_off, "PermitTunnel"),
    ),
    SettingAdvice(
        "LogLevel", ("loglevel", "authenticationmethods"),
        "Nobody can find out later which key opened a login that sshd did not log.", _log_level,
    ),
    SettingAdvice(
        "PermitUserRC", ("permituserrc",),
        "sshd runs ~/.ssh/rc at each login, so an attacker can hide a command there.", _user_rc,
    ),
    SettingAdvice(
        "PermitUserEnvironment", ("permituserenvironment",),
        "A user can set LD_PRELOAD and the like, and so escape a forced command.", _user_environment,
    ),
    SettingAdvice(
        "StrictModes", ("strictmodes",),
        "A user who can write another user's authorized_keys can log in as that user.", _strict_modes,
    ),
    SettingAdvice(
        "UsePAM", ("usepam",),
        "Without PAM, sshd checks no expired account and no access.conf, and logs no end of a session.", _use_pam,
    ),
)  # fmt: skip
