"""Which message goes where, how it reads, how it gets there, and what is done when it does not."""
