"""The databases: the only package with SQL."""
