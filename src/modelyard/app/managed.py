"""Rollouts as the management address asks for them: the verbs of the command line, in the name of a key."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from modelyard.app.course_verbs import CourseVerbs
from modelyard.app.records import Records
from modelyard.app.settings import Settings
from modelyard.app.spawn import COMMAND, child_environment
from modelyard.core.codec import decode, encode
from modelyard.core.rollout import Strategy
from modelyard.errors import ModelyardError, ServiceError, UsageError
from modelyard.serve.keep.rollouts import Verb

COMMAND_NAME = "management address"  # on the audit log
MOST_BEGIN_S = 900.0  # for releases to load and fronts to follow


class BeginnerJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout to begin, in whose name, and in which store."""

    releases: tuple[str, ...]
    strategy: Strategy | None = None
    by: str
    home: str
    database_url: str | None = None
    quota_bytes: int | None = None
    change_ticket: str | None = None

    @property
    def settings(self) -> Settings:
        """What the process that begins it works with."""
        return Settings(
            home=Path(self.home),
            database_url=self.database_url,
            quota_bytes=self.quota_bytes,
            change_ticket=self.change_ticket,
            user=self.by,
        )


class Refusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a rollout did not begin."""

    error: str
    message: str
    exit_code: int


class ManagedRollouts:
    """The rollouts of one service. Safe for threads."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._settings, self._service = settings, service

    def status(self) -> Any:
        """Return what `modelyard status` does."""
        return self._verbs(self._settings.user).status(self._service)

    def begin(self, releases: Sequence[str], strategy: Strategy | None, by: str) -> Any:
        """Begin a rollout, and return what `modelyard deploy` does.

        It is done by a process of its own: a supervisor never loads the types of the spec.
        Raises: what `RolloutVerbs.begin` does, as UsageError or ServiceError with its code.
        """
        settings = self._settings
        job = BeginnerJob(
            releases=tuple(releases),
            strategy=strategy,
            by=by,
            home=str(settings.home),
            database_url=settings.database_url,
            quota_bytes=settings.quota_bytes,
            change_ticket=settings.change_ticket,
        )
        try:
            done = subprocess.run(
                [*COMMAND, "beginner"],
                input=encode(job),
                stdout=subprocess.PIPE,
                env=child_environment(),
                start_new_session=True,
                timeout=MOST_BEGIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired as fault:
            raise ServiceError(f"The rollout had not begun after {MOST_BEGIN_S:g} s, and was given up.") from fault
        if done.returncode == 0:
            return msgspec.Raw(done.stdout)
        raise _refused(done.stdout, done.returncode)

    def ask(self, verb: Verb, by: str, *, full: bool = False) -> Any:
        """Do what the command of that name does, and return what it returns."""
        verbs = self._verbs(by)
        match verb:
            case "promote":
                return verbs.promote(self._service, full=full)
            case "pause":
                return verbs.pause(self._service)
            case "resume":
                return verbs.resume(self._service)
            case "rollback":
                return verbs.traffic().rollback(self._service)

    def _verbs(self, by: str) -> CourseVerbs:
        return CourseVerbs(Records(_by(self._settings, by), command=COMMAND_NAME))


def _by(settings: Settings, label: str) -> Settings:
    return replace(settings, user=label)


def _refused(said: bytes, status: int) -> ModelyardError:
    """Return what a process that did not begin a rollout said, as the kind of error that it was."""
    try:
        refusal = decode(said, Refusal)
    except msgspec.MsgspecError:
        return ServiceError(f"What begins rollouts ended with status {status}; the service's `stderr.log` has more.")
    is_not_now = refusal.exit_code != UsageError.exit_code or refusal.error.startswith(ServiceError.code)
    kind = ServiceError if is_not_now else UsageError
    fault = kind(refusal.message)
    fault.code, fault.exit_code = refusal.error, refusal.exit_code
    return fault
