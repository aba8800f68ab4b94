"""The machine that sshbell runs on: installation, checks, status."""
