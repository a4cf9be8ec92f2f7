"""From a file of rows to a file of answers, through the bundle, in bounded memory."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from modelyard import data
from modelyard.bundle.open import Answers, Bundle
from modelyard.core.arrays import Array
from modelyard.core.codec import encode
from modelyard.core.contract import Quarantined, Role
from modelyard.core.data_plan import Format
from modelyard.core.metrics import Task
from modelyard.core.ports import Progress
from modelyard.data import Batch
from modelyard.flow.translate import reading_of
from modelyard.spec.system import System

ROWS = 32_768  # of one batch
_FEATURES = (Role.FEATURE,)


class Predicted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file of predictions holds."""

    release: str
    rows: int
    quarantined: int
    out: str
    quarantine: str | None


def predict_file(
    bundle: Bundle, release: str, source: Path, out: Path, *, spec: System, progress: Progress
) -> Predicted:
    """Answer every row of a file or folder of parts; rows that break the contract go beside `out` with the reason."""
    progress.stage("predict")
    reading = replace(reading_of(spec), format=Format.AUTO)  # this file need not be written as the training file was
    done, aside = 0, out.with_name(f"{out.name}.quarantine.jsonl")
    count = 0
    with data.AnswerFile(out) as file:
        for batch in _ahead(data.stream(source, bundle.body.contract, rows=ROWS, reading=reading, roles=_FEATURES)):
            if len(batch.columns):
                file.write(_columns(bundle, batch, bundle.answer(batch.columns)))
            done += len(batch.columns)
            count += _set_aside(batch.quarantined, aside, first=count == 0)
            progress.advance(done, f"{done} rows")
    return Predicted(
        release=release, rows=done, quarantined=count, out=str(out), quarantine=str(aside) if count else None
    )


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Read one batch ahead on a thread, while the graph works on the one before."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _columns(bundle: Bundle, batch: Batch, answers: Answers) -> dict[str, Array]:
    named: dict[str, Array] = {"row": batch.numbers}
    if bundle.manifest.task is Task.REGRESSION:
        assert answers.values is not None
        return {**named, "prediction": answers.values}
    assert answers.labels is not None and answers.probabilities is not None
    named["prediction"] = answers.labels
    for place, name in enumerate(bundle.manifest.classes):
        named[f"probability {name}"] = np.ascontiguousarray(answers.probabilities[:, place])
    return named


def _set_aside(rows: tuple[Quarantined, ...], path: Path, *, first: bool) -> int:
    if rows:
        with path.open("wb" if first else "ab") as file:
            file.writelines(encode(row) + b"\n" for row in rows)
    return len(rows)
