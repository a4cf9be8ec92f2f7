"""A process that is lent to whoever started it: its job is the first line of its standard input, and it ends with that.

However its parent ended, the kernel closes the pipe; then the process drains as at any SIGTERM. Where it could not
do its job, the last line of standard error says why.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

from modelyard.core.codec import decode, encode
from modelyard.errors import ModelyardError

Job = TypeVar("Job")


def run_lent(kind: type[Job], run: Callable[[Job], int]) -> NoReturn:
    """Read the job, run it, and exit with the status that it returns."""
    wanted = decode(sys.stdin.buffer.readline(), kind)
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        sys.exit(run(wanted))
    except ModelyardError as fault:
        sys.stderr.write(encode({"error": fault.code, "message": str(fault)}).decode() + "\n")
        sys.exit(fault.exit_code)


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
