"""Rollouts: promote, pause, resume, status."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from modelyard.app.records import Records
from modelyard.app.rollout import Begun, RolloutVerbs
from modelyard.cli.options import Json, words
from modelyard.cli.printing import Printer, TerminalProgress, put
from modelyard.cli.rollout_view import lines
from modelyard.rollout.course import Course

WATCH_S = 0.5  # between looks of a live view
_UP = "\x1b[H\x1b[J"  # to the top of the screen, and what is below away

Name = Annotated[str, typer.Argument(help="The service.")]


def promote(
    name: Name,
    full: Annotated[bool, typer.Option("--full", help="To all of the traffic at once.")] = False,
    json: Json = False,
) -> None:
    """Example: modelyard promote income

    A person's word for it takes the place of the verdicts that are open; what fails goes back all the same.
    """
    course = _verbs().promote(name, full=full)
    _tell(course, f"The rollout {course.id} goes to {'all of the traffic' if full else 'its next step'}.", as_json=json)


def pause(name: Name, json: Json = False) -> None:
    """Example: modelyard pause income"""
    course = _verbs().pause(name)
    _tell(course, f"The rollout {course.id} is paused at its shares; it goes back where it has to.", as_json=json)


def resume(name: Name, json: Json = False) -> None:
    """Example: modelyard resume income"""
    course = _verbs().resume(name)
    _tell(course, f"The rollout {course.id} goes on.", as_json=json)


def status(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", help="Show it live, until the rollout has ended.")] = False,
    json: Json = False,
) -> None:
    """Example: modelyard status income --watch

    Ctrl-C ends a live view, and leaves the rollout as it is.
    """
    verbs, printer = _verbs(), Printer(as_json=json)
    while True:
        seen = verbs.status(name)
        is_last = not watch or not seen.is_open
        if watch and not json and sys.stdout.isatty():
            put(sys.stdout, _UP)
        if is_last or sys.stdout.isatty() or json:
            for line in lines(seen, verbs.records.clock.now().timestamp()):
                printer.line(line)
            printer.data(seen)
        if is_last:
            return
        time.sleep(WATCH_S)


def tell_begun(begun: Begun, *, as_json: bool) -> None:
    """Say what was begun."""
    printer, course, changed = Printer(as_json=as_json), begun.course, begun.changed
    names = ", ".join(course.state.candidates)
    share = course.policy.share_at(course.state.step)
    what = f"{100 * share:g} % of the traffic" if share else "a copy of every request"
    printer.line(f"Rollout {course.id}: {names} gets {what} of `{course.service}` (epoch {changed.epoch}).")
    for why in (*changed.warnings, *begun.notes):
        TerminalProgress().say(f"WARNING: {why}")
    printer.line(f"See how it goes: modelyard status {course.service} --watch")
    printer.line(f"Take it back: modelyard rollback {course.service}")
    printer.data(begun)


def _tell(course: Course, text: str, *, as_json: bool) -> None:
    printer = Printer(as_json=as_json)
    printer.line(text)
    printer.data(course)


def _verbs() -> RolloutVerbs:
    return RolloutVerbs(Records(command=words()))
