"""What an event does not say itself: looked up by ``sshbell deliver`` before it is told, each part within a limit of its own."""
