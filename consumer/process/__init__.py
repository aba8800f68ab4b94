"""What each sshbell process needs for itself: a lock, a log, fewer privileges, and a safe way to run commands."""
