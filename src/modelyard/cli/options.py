"""Options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

SpecFile = Annotated[Path, typer.Argument(help="The spec's file.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Ref = Annotated[str, typer.Argument(help="A release, such as `income@2`, or a name for its newest.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there already.")]

SYSTEM = Path("system.yaml")


def words() -> str:
    """Return what was typed, for the audit log."""
    return " ".join(["modelyard", *sys.argv[1:]])
