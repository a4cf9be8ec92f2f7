"""The command line: parse, call one method of `App`, print. It holds no rules.

One file a family of verbs. A command's file is imported when that command is called, so that help answers at once.
"""

from modelyard.cli.main import main

__all__ = ["main"]
