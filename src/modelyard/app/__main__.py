"""`python -m modelyard.app KIND`: a process of Modelyard's own. Each kind imports just what it needs.

With `--while PID` before the kind it ends as soon as process PID is no longer its parent.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time

KINDS = ("fitter", "timing", "supervisor", "front", "worker", "controller", "beginner", "sweeper")
HELPERS = ("fitter", "timing", "sweeper")  # of a command in the foreground, which answers Ctrl-C for them
LOOK_S = 0.25


def main() -> None:
    """Run the process of the kind named on the command line."""
    words = sys.argv[1:]
    if len(words) == 3 and words[0] == "--while" and words[1].isdigit():
        threading.Thread(target=_end_with, args=(int(words[1]),), daemon=True).start()
        words = words[2:]
    if len(words) != 1 or words[0] not in KINDS:
        sys.exit(f"Wanted one of {', '.join(KINDS)}. These processes are started by `modelyard` itself.")
    if words[0] in HELPERS:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    importlib.import_module(f"modelyard.app.{words[0]}").main()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(0)


if __name__ == "__main__":
    main()
