"""
The account behind a uid that wrote a forged line: ``ssh.claimed_by_user``.

A uid has a meaning only on its own host, so sshbell looks up only uids of this host. A directory service may hang: one thread
asks, so that a flood of forged lines cannot take the threads of other parts.
"""

import asyncio
import pwd
import socket
from concurrent.futures import ThreadPoolExecutor

from consumer.actions import EventAction
from consumer.addresses import is_same_host
from consumer.ecs import NOTHING, EcsEvent, SshFields

_THREAD = ThreadPoolExecutor(1, "accounts")


async def local_account(event: EcsEvent) -> EcsEvent:
    """Return the account that wrote a forged line on this host, if it has a name."""
    uid = event.ssh.claimed_by_uid
    if event.event.action != EventAction.FORGED or uid is None or not is_same_host(event.host.name or "", socket.gethostname()):
        return NOTHING
    try:
        account = await asyncio.get_running_loop().run_in_executor(_THREAD, pwd.getpwuid, uid)
    except (KeyError, OverflowError):
        return NOTHING
    return EcsEvent(ssh=SshFields(claimed_by_user=account.pw_name))
