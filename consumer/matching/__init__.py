"""From the text of a log line to the grammar rule that reads it."""
