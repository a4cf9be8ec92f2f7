"""The OpenMP library that LightGBM needs, for machines that have none of their own."""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

NAME = "libgomp.so.1"


@functools.cache
def library_folder() -> Path | None:
    """Return a folder to put on the library path of a fitting process; None where the system has the library.

    scikit-learn brings a copy under a name of its own; the folder, removed when this process ends, holds a link to it
    under the name that LightGBM asks for.
    """
    if sys.platform != "linux" or _loads():
        return None
    copy = bundled()
    if copy is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="modelyard-openmp-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / NAME).symlink_to(copy)
    return folder


def bundled() -> Path | None:
    """Return scikit-learn's own copy of the library, if it is installed with one."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.parent.glob("scikit_learn.libs/libgomp*.so*"))), None)


def _loads() -> bool:
    try:
        ctypes.CDLL(NAME)
    except OSError:
        return False
    return True
