"""``python -m consumer`` is ``sshbell``."""

from consumer.cli import main

if __name__ == "__main__":
    main()
