"""
The account behind a uid that wrote a forged line: ``ssh.claimed_by_user``.

A uid has a meaning only on its own host, so sshbell looks up only uids of this host. A directory service may hang: one thread
asks, so that a flood of forged lines cannot take the threads of other parts.
"""

import pwd
import socket

from consumer.actions import EventAction
from consumer.addresses import is_same_host
from consumer.ecs import NOTHING, EcsEvent, SshFields
from consumer.process.threads import Threads

_accounts = Threads()


async def local_account(event: EcsEvent) -> EcsEvent:
    """Return the account that wrote a forged line on this host, if it has a name."""
    uid = event.ssh.claimed_by_uid
    if event.event.action != EventAction.FORGED or uid is None or not is_same_host(event.host.name or "", socket.gethostname()):
        return NOTHING
    try:
        account = await _accounts.run(pwd.getpwuid, uid)
    except (KeyError, OverflowError):
        return NOTHING
    return EcsEvent(ssh=SshFields(claimed_by_user=account.pw_name))
