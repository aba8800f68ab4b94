"""The output for people in a terminal."""
