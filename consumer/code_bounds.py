"""
The bounds of codes. The types of the configuration, the commands that PAM runs, ``deliver`` and ``import`` all check them.

This module imports nothing, because a login waits for it.
"""

# Digits of a code, and of the number that prompt and message show.
DIGITS, SESSION_DIGITS = range(6, 13), range(4, 13)
# How often somebody may type a code wrongly.
TRIES = range(1, 11)
# People wait, and sshd waits for LoginGraceTime: two minutes. If deliver refused a longer time, on_failure = "safe" would let in
# everybody.
TIMEOUT_LIMIT_S, VALID_LIMIT_S = 60, 3600
