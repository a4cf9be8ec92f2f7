"""The file of a service's rollout, in its run folder: one course at a time, changed by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from modelyard.core.codec import decode, encode_pretty, write_atomic
from modelyard.errors import CourseUnreadable, UnknownName
from modelyard.rollout.course import Course
from modelyard.serve.messages import ROLLOUT_MARK

COURSE_FILE = "rollout.json"
LOCK_FILE = "rollout.lock"


class Courses:
    """The course of one service. Its mark stands as long as someone has to keep it: the supervisor looks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep every other process from changing the course; one that ends, however it does, lets go of it."""
        handle = os.open(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def read(self) -> Course | None:
        """Return the course, also one that has ended; None where there was none. Raises CourseUnreadable."""
        path = self.folder / COURSE_FILE
        try:
            return decode(path.read_bytes(), Course)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as fault:
            raise CourseUnreadable(
                f"`{path}` cannot be read: {fault}. If it is lost, take the release back and remove the file: "
                f"modelyard rollback {self.folder.name}"
            ) from fault

    def need(self) -> Course:
        """Return the course; raises UnknownName where there was none."""
        course = self.read()
        if course is None:
            raise UnknownName("rollout of the service", self.folder.name)
        return course

    def write(self, course: Course) -> None:
        """Write the course, whole or not at all. To be called while it is held."""
        write_atomic(self.folder / COURSE_FILE, encode_pretty(course), mode=0o600)

    def open(self, course: Course) -> None:
        """Write a course that has to be kept from now on."""
        self.write(course)
        (self.folder / ROLLOUT_MARK).touch(mode=0o600)

    def alive(self, until: float) -> None:
        """Say until when who keeps the course is alive, on the machine's monotonic clock; later it is replaced."""
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            os.utime(self.folder / ROLLOUT_MARK, (until, until))

    def close(self) -> None:
        """Say that nobody has to keep it any more."""
        (self.folder / ROLLOUT_MARK).unlink(missing_ok=True)

    def put_aside(self) -> Path:
        """Let go of a course that cannot be read; return where its file is now."""
        path = self.folder / COURSE_FILE
        aside = path.with_suffix(".unreadable")
        path.replace(aside)
        self.close()
        return aside

    def take_back(self, last: Course | None) -> None:
        """Forget a course that never began; the one before is there again."""
        self.close()
        if last is None:
            (self.folder / COURSE_FILE).unlink(missing_ok=True)
        else:
            self.write(last)

    @property
    def is_open(self) -> bool:
        """Say whether the course has to be kept."""
        return (self.folder / ROLLOUT_MARK).exists()
