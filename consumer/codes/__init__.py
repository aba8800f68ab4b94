"""One-time codes at login: the commands that PAM runs, and what they say to ``deliver`` and to the log."""
