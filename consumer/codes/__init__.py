"""One-time codes at login: the commands that PAM runs, and how they ask ``deliver`` to send a code."""
