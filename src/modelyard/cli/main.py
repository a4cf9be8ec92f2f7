"""The table of commands, and the frame that every one of them runs in."""

from __future__ import annotations

import functools
import importlib
import inspect
import signal
import sys
from collections.abc import Callable
from typing import Any

import typer

from modelyard import __version__
from modelyard.cli.printing import Printer, close_quietly, fail

# command -> (file, help). The file is imported when the command is called, and only then.
COMMANDS = {
    "init": ("build", "Look at some data and write a first spec, every default visible."),
    "explain": ("build", "Tell every value of a spec: where it is set and what it means."),
    "schema": ("build", "Print the JSON Schema of a spec, for editors."),
    "plan": ("build", "Say what a run will do and check, before it does."),
    "run": ("build", "Build a spec into a sealed release."),
    "releases": ("care", "List releases."),
    "show": ("look", "Show a release: its requirements, its candidates, its card."),
    "diff": ("look", "Say what differs between two releases."),
    "report": ("look", "Write the report of a release: one page, everything claimed with its evidence."),
    "predict": ("use", "Answer rows with a release: a file, or rows in JSON."),
    "serve": ("services", "Serve a release."),
    "services": ("services", "List services."),
    "bench": ("bench", "Measure a service under load; find the highest rate that keeps its latency bound."),
    "stop": ("services", "Drain and end a service."),
    "deploy": ("traffic", "Let a release answer, once it is loaded and right: at once, or step by step."),
    "promote": ("rollout", "Have a rollout go to its next step, whatever is decided."),
    "pause": ("rollout", "Have a rollout not go forward; it still goes back."),
    "resume": ("rollout", "Let a paused rollout go forward again."),
    "status": ("rollout", "Show a service: its traffic, its rollout and why it stands where it does."),
    "traffic": ("split", "Show how a service's traffic is split, or split it by hand; say whom a request meets."),
    "rollback": ("traffic", "Go back to the release that answered before, at once."),
    "feedback": ("feedback", "Say what came true of requests that were answered."),
    "drill": ("drill", "Rehearse failures and the way back of a release on copies of its service."),
    "keys": ("keys", "Add, list or remove the API keys of a service."),
    "audit": ("care", "Show or verify the audit log."),
    "gc": ("care", "Remove from the store what nothing needs."),
}

_ABOUT = (
    "Takes an AI system from a written requirement to a monitored service, and takes it back when it no longer holds."
)
_FIRST = (
    "Example: modelyard init income --from adult.csv --target income && modelyard run && modelyard serve income\n\n"
    "Exit codes: 0 done, 1 failed unexpectedly, 2 wrong usage, spec or data, 3 requirement not met, 4 inconclusive."
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with the code that the verb's outcome has."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        _app(words)(args=words, prog_name="modelyard")
    except (KeyboardInterrupt, Exception) as fault:  # noqa: BLE001 - the last frame: every fault ends in words and a code
        sys.exit(fail(fault, as_json="--json" in words))
    finally:
        close_quietly(sys.stdout)


def _app(words: list[str]) -> typer.Typer:
    app = typer.Typer(
        name="modelyard", help=_ABOUT, epilog=_FIRST, no_args_is_help=True, add_completion=False,
        pretty_exceptions_enable=False, rich_markup_mode=None,
    )  # fmt: skip
    app.callback()(_root)
    called = next((word for word in words if not word.startswith("-")), None)
    for name, (file, about) in COMMANDS.items():
        if name == called:
            command = getattr(importlib.import_module(f"modelyard.cli.{file}"), name)
            help = f"{about}\n\n{inspect.getdoc(command) or ''}"
            app.command(name, help=help)(_framed(command, as_json="--json" in words))
        else:
            app.command(name, help=about)(_stub(name))
    return app


def _framed(command: Callable[..., None], *, as_json: bool) -> Callable[..., None]:
    """Return the command with what typer would end in its own way, without a word, said by us."""

    @functools.wraps(command)
    def framed(*args: Any, **options: Any) -> None:
        signal.siginterrupt(signal.SIGINT, True)  # polars has waits go on after Ctrl-C; here they end
        try:
            command(*args, **options)
        except (KeyboardInterrupt, OSError) as fault:
            raise typer.Exit(fail(fault, as_json=as_json)) from fault

    return framed


def _version(wanted: bool) -> None:
    if wanted:
        Printer().line(__version__)
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", is_eager=True, callback=_version
    ),
) -> None: ...


def _stub(name: str) -> Callable[[], Any]:
    def not_called() -> None:
        raise AssertionError(f"`{name}` was called without its file")

    return not_called
