"""Which rule of ``[codes]`` counts for a login."""

import grp
import os
import pwd
from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_network

from consumer.addresses import ip_of
from consumer.codes.pam_login import PamLogin
from consumer.codes.settings import PamCodes, PamRule

_ALWAYS = PamRule()


def passwd_entry(login: PamLogin) -> pwd.struct_passwd | None:
    """Return the account of the user; None if there is none."""
    try:
        return pwd.getpwnam(login.user)
    except (KeyError, ValueError):
        return None


def rule_for(codes: PamCodes, login: PamLogin, account: pwd.struct_passwd) -> PamRule:
    """Return the first rule that fits a login; one that always asks if none fits."""
    return next((rule for rule in codes.rule if _fits(rule, login, account)), _ALWAYS)


def _fits(rule: PamRule, login: PamLogin, account: pwd.struct_passwd) -> bool:
    return (
        (not rule.user or _is_one(rule.user, login.user))
        and (not rule.service or _is_one(rule.service, login.service))
        and (not rule.address or _is_in(rule.address, login.address))
        and (not rule.group or any(_is_one(rule.group, group) for group in _groups(account)))
    )


def _is_one(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_in(networks: Sequence[str], address: str) -> bool:
    ip = ip_of(address)
    return ip is not None and any(ip in ip_network(network) for network in networks)


def _groups(account: pwd.struct_passwd) -> list[str]:
    names = []
    for gid in os.getgrouplist(account.pw_name, account.pw_gid):
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names
