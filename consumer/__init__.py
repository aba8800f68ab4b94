"""sshbell: rings when somebody logs in over SSH."""

__version__ = "0.1.0"
