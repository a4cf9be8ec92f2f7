"""From data to a release: init, explain, schema, plan, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.cli.options import SYSTEM, Json, Overwrite, SpecFile
from modelyard.cli.printing import Printer
from modelyard.cli.tables import candidate_table, judgement_lines, passed_over_lines
from modelyard.cli.verbs import app
from modelyard.core.codec import encode_pretty
from modelyard.flow.start import Wish
from modelyard.spec.explain import explain as tell
from modelyard.spec.load import load
from modelyard.spec.schema import schema as spec_schema
from modelyard.spec.task import ModelType


def init(
    name: Annotated[str, typer.Argument(help="Name of the system: a-z, 0-9, `_`, `-`.")],
    source: Annotated[Path, typer.Option("--from", help="File or folder with the rows.")],
    target: Annotated[str, typer.Option(help="Column that holds the answer.")],
    test: Annotated[Path | None, typer.Option(help="File with test rows of their own.")] = None,
    task: Annotated[ModelType | None, typer.Option(help="Told from the target where not given.")] = None,
    positive: Annotated[str | None, typer.Option(help="Class that counts as positive; the rarer of two.")] = None,
    audit: Annotated[list[str] | None, typer.Option(help="A protected column; may be given again.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="A column to leave out; may be given again.")] = None,
    out: Annotated[Path, typer.Option(help="Where the spec goes.")] = SYSTEM,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Example: modelyard init income --from adult.csv --target income --audit sex"""
    printer = Printer(as_json=json)
    wish = Wish(
        name=name, data_path=source, target=target, test_path=test, task=task, positive=positive,
        audit=tuple(audit or ()), ignore=tuple(ignore or ()),
    )  # fmt: skip
    verbs = app(quiet=json)
    path = verbs.init(wish, out, overwrite=overwrite)
    verbs.progress.say("")
    named = "" if path == SYSTEM else f" {path}"
    printer.line(f"Wrote {path}. Next: modelyard plan{named}, then modelyard run{named}.")
    printer.data({"spec": str(path)})


def explain(spec: SpecFile = SYSTEM, json: Json = False) -> None:
    """Example: modelyard explain system.yaml"""
    loaded = load(spec)
    printer = Printer(as_json=json)
    printer.line(tell(loaded).rstrip())
    printer.data(loaded.spec.model_dump(mode="json"))


def schema() -> None:
    """Example: modelyard schema > system.schema.json"""
    Printer().plain(encode_pretty(spec_schema()).decode().rstrip())


def plan(spec: SpecFile = SYSTEM, json: Json = False) -> None:
    """Example: modelyard plan"""
    printer = Printer(as_json=json)
    verbs = app(quiet=json)
    sections = verbs.plan(spec)
    verbs.progress.say("")
    for section in sections:
        printer.line(section.title)
        for line in section.lines:
            printer.line(f"  {line}")
    printer.data(sections)


def run(spec: SpecFile = SYSTEM, json: Json = False) -> None:
    """Example: modelyard run

    A run that was killed goes on where it was. Exit code 3 says that a requirement is not met, 4 that the rows
    cannot decide one.
    """
    printer = Printer(as_json=json)
    verbs = app(quiet=json)
    built = verbs.build(spec)
    verbs.progress.say("")
    candidate_table(printer, built.evidence)
    printer.line()
    evaluation = built.evidence.evaluation
    judgement_lines(printer, evaluation.judgements)
    passed_over_lines(printer, evaluation.passed_over)
    if built.refusal is not None:
        raise built.refusal
    assert built.release is not None
    printer.line()
    printer.line(f"Sealed {built.release.id}: {built.release.headline}")
    printer.line(f"Body {built.release.body[:16]}. Report: modelyard report {built.release.id}")
    printer.data({"release": built.release, "judgements": evaluation.judgements, "passed_over": evaluation.passed_over})
