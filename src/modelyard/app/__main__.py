"""`python -m modelyard.app KIND`: a process of Modelyard's own. Each kind imports just what it needs."""

from __future__ import annotations

import importlib
import sys

KINDS = ("fitter", "timing", "supervisor", "front", "worker")


def main() -> None:
    """Run the process of the kind named on the command line."""
    if len(sys.argv) != 2 or sys.argv[1] not in KINDS:
        sys.exit(f"Wanted one of {', '.join(KINDS)}. These processes are started by `modelyard` itself.")
    importlib.import_module(f"modelyard.app.{sys.argv[1]}").main()


if __name__ == "__main__":
    main()
