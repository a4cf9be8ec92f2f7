"""A process that ends everything of a drill, however the drill itself ended, and then removes its folder.

It waits until its standard input closes, which happens too when the process that holds the other end is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from modelyard.app.settings import HOME

PATIENCE_S = 10.0
LOOK_S = 0.01


def main() -> None:
    """Guard the folder named on the command line."""
    folder = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends after what it guards
    sys.stdin.buffer.read()
    end = time.monotonic() + PATIENCE_S
    while (left := marked(folder)) and time.monotonic() < end:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_S)
    shutil.rmtree(folder, ignore_errors=True)
    if left or folder.exists():
        sys.exit(f"Processes {left} or the folder {folder} of a drill are left: end and remove them.")


def marked(folder: Path) -> list[int]:
    """Return the living processes that have a folder as their store: all that a copy there ever started."""
    mark = f"{HOME}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if mark in words and state not in ("Z", "X"):
                    found.append(int(entry.name))
    return found


if __name__ == "__main__":
    main()
