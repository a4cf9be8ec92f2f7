"""All verbs, for the commands that need the libraries behind them."""

from __future__ import annotations

from modelyard.app.system import App
from modelyard.cli.options import words
from modelyard.cli.printing import TerminalProgress


def app(*, quiet: bool = False) -> App:
    """Return the verbs, with progress for whoever watches."""
    return App(progress=TerminalProgress(quiet=quiet), command=words())
