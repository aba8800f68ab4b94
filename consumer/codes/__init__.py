"""One-time codes at login: what ``sshbell pam`` runs inside sshd."""
