"""One module per command, with a click command of the same name. A command imports its modules when it runs."""
