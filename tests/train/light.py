"""A fitting process with toy trainers, which starts in a fraction of a second; `python -m tests.train.light`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.core.arrays import Floats, Singles
from modelyard.core.candidate import ParamValue
from modelyard.core.training import Fitted, Trainer, TrainingSet
from modelyard.errors import NotConvertible, UnknownName
from modelyard.train.child import serve_jobs
from modelyard.train.job import FitJob

ROOT = Path(__file__).parent.parent.parent


def spawn(kind: str, *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start the process of this file in place of the real one."""
    assert kind == "fitter" and not pass_fds
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.light"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )


class Toy:
    """Fits the mean, or a ruin that the algorithm's name asks for."""

    encoding = "tree"

    def __init__(self, name: str) -> None:
        self._name = name

    def fit(self, data: TrainingSet, params: Mapping[str, ParamValue], *, seed: int, threads: int) -> Fitted:
        make: Callable[..., Any] | None = getattr(self, self._name.replace("-", "_"), None)
        if make is None:
            from tests.adapters import own  # heavy, and few fits need it

            make = getattr(own, self._name)
            made = make(data.features, data.target, weight=data.weight, classes=data.classes, seed=seed, params=params)
            return Fitted(graph=b"", raw="value", predict=lambda rows: np.asarray(made.predict(rows))[:, None])
        fitted: Fitted = make(data, params, seed, threads)
        return fitted

    def mean(self, data: TrainingSet, params: Mapping[str, ParamValue], seed: int, threads: int) -> Fitted:
        """Answer the weighted mean, or share, moved by what the parameters say; the seed is in the graph."""
        weight = np.ones(len(data.target)) if data.weight is None else data.weight
        outputs = data.classes if data.classes > 2 else 1
        centre = float(np.average(data.target, weights=weight)) + float(params.get("shift") or 0)

        def predict(rows: Singles) -> Floats:
            return np.asarray(rows[:, :1] * float(params.get("slope") or 0) + np.full((len(rows), outputs), centre))

        graph = f"{centre!r} {seed} {threads}".encode()
        return Fitted(graph=graph, raw="margin" if data.classes else "value", predict=predict, facts={"centre": centre})

    def shape(self, *_: Any) -> Fitted:
        return Fitted(graph=b"g", raw="value", predict=lambda rows: np.zeros(len(rows)))

    def not_a_number(self, *_: Any) -> Fitted:
        return Fitted(graph=b"g", raw="value", predict=lambda rows: np.full((len(rows), 1), np.nan))

    def refused(self, *_: Any) -> Fitted:
        raise NotConvertible("this cannot be told as a graph")

    def compared(self, *_: Any) -> Fitted:
        return Fitted(graph=b"", raw="value", predict=lambda rows: rows[:, :1].astype(float), refusal="no exact form")

    def slow(self, data: TrainingSet, params: Mapping[str, ParamValue], seed: int, threads: int) -> Fitted:
        """Say that the fit has begun, then wait until somebody ends it."""
        Path(str(params["begun"])).write_text(f"{os.getppid()} {os.getpid()}")
        while True:
            time.sleep(0.01)

    def random(self, data: TrainingSet, params: Mapping[str, ParamValue], seed: int, threads: int) -> Fitted:
        fitted = self.mean(data, params, seed, threads)
        return Fitted(graph=os.urandom(8), raw=fitted.raw, predict=fitted.predict)


def trainer_of(job: FitJob) -> Trainer:
    if job.trainer == "unknown":
        raise UnknownName("algorithm", job.trainer, ("mean",))
    return Toy(job.trainer)


if __name__ == "__main__":
    serve_jobs(sys.stdin.buffer, sys.stdout.buffer, trainer_of)
