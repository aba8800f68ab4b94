"""The log grammars: pyparsing expressions, one module per program family, and nothing else."""
