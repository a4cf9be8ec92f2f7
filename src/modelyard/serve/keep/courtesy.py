"""Whose turn on the processors is worth less: workers that no caller waits for give way to the others.

What is done can be taken back, at once and by the same user, as a release that gets copies may answer callers next:

- SCHED_BATCH: a process that wakes up takes no processor away from one that runs.
- The nice value of its autogroup. Each process of a service leads a session of its own, so where the kernel groups
  by session (`kernel.sched_autogroup_enabled`, outside of control groups with a share of processors) this is the
  one that counts among them.
- Its own nice value, only where it may be lowered again: by a user with CAP_SYS_NICE, or `ulimit -e` of 20 or more.

Not SCHED_IDLE: without that leave nobody brings a process back from it, and on a busy machine its share is so small
that a worker would seem to hang.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

NICER = 10  # added to the nice value: about a tenth of the weight
MOST_NICE = 19
LOOKS = 5  # at the threads of a process, until no new one is found
_CAP_SYS_NICE = 1 << 23


def give_way(pid: int) -> bool:
    """Let a process have its turn when others do not want it; say whether all was done that can be taken back."""
    return _set(pid, os.SCHED_BATCH, NICER)


def be_as_others(pid: int) -> bool:
    """Let a process have its turn as all others; False where the kernel wants to be asked again in a moment."""
    return _set(pid, os.SCHED_OTHER, 0)


def _set(pid: int, policy: int, nicer: int) -> bool:
    raises, nice = _may_raise(), min(MOST_NICE, os.getpriority(os.PRIO_PROCESS, 0) + nicer)  # ours is where they began
    seen: set[int] = set()
    try:
        done = _set_autogroup(pid, nicer)
        for _ in range(LOOKS):  # a thread that another one starts meanwhile has what that one had
            threads = {int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()} - seen
            if not threads:
                break
            for thread in threads:
                os.sched_setscheduler(thread, policy, os.sched_param(0))
                if raises:
                    os.setpriority(os.PRIO_PROCESS, thread, nice)
            seen |= threads
    except PermissionError:  # as in some sandboxes: it stays as it is
        return True
    except OSError:  # it, or one of its threads, is gone
        return False
    return done


def _set_autogroup(pid: int, nice: int) -> bool:
    """Set the nice value of a process's autogroup, unless it is ours too."""
    path = Path(f"/proc/{pid}/autogroup")
    try:
        name, _, now = path.read_text().partition(" nice ")
        if name == Path("/proc/self/autogroup").read_text().partition(" nice ")[0] or now.strip() == str(nice):
            return True
    except (OSError, IndexError):  # this kernel has none
        return True
    try:
        path.write_text(str(nice))
    except BlockingIOError:  # one change in a tenth of a second is let through
        return False
    return True


def _may_raise() -> bool:
    if resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20:
        return True
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & _CAP_SYS_NICE)
    return False
