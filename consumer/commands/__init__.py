"""One module a command, each with a click command of the same name. They import what they need when they run."""
