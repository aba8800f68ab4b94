"""The log grammars: only pyparsing expressions, with one module for each program family."""
