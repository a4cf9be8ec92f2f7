"""How many callers a process has room for: each connection is an open file, and so is all else that it works with."""

from __future__ import annotations

import resource

MOST_CONNECTIONS = 10_000
KEPT_FILES = 128  # for logs, workers, the supervisor, files that are read, and connections that are being refused


def make_room(most: int = MOST_CONNECTIONS) -> int:
    """Raise the bound of open files as far as this process may and needs; return how many connections fit.

    Without room left, a front could neither write its log nor reach a worker that was replaced.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + KEPT_FILES
    if soft == resource.RLIM_INFINITY:
        return most
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else max(soft, min(wanted, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(most, max(soft - KEPT_FILES, soft // 2))
