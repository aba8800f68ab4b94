"""Turns years of log files into Parquet on Spark, with the code of ``sshbell replay``."""
