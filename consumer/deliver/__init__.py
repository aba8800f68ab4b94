"""Routes, renders and sends messages, and retries those that fail."""
