"""The fitting process: jobs on standard input, outcomes on standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from modelyard import adapters
from modelyard.core.training import Trainer
from modelyard.errors import UnknownName
from modelyard.train.child import serve_jobs
from modelyard.train.job import FitJob

# algorithm -> (adapter, class)
TRAINERS = {
    "baseline": ("sklearn", "BaselineTrainer"),
    "linear": ("sklearn", "LinearTrainer"),
    "lightgbm": ("lightgbm", "LightGbmTrainer"),
    "random_forest": ("sklearn", "ForestTrainer"),
    "mlp": ("sklearn", "NetworkTrainer"),
    "function": ("function", "FunctionTrainer"),
}


def trainer_of(job: FitJob) -> Trainer:
    """Return the trainer of a job; its library is imported by the first job that needs it."""
    if job.trainer not in TRAINERS:
        raise UnknownName("algorithm", job.trainer, tuple(TRAINERS))
    module, name = TRAINERS[job.trainer]
    make = cast(Callable[..., Trainer], getattr(adapters.load(module), name))
    return make(job.function, job.function_path) if job.trainer == "function" else make()


def main() -> None:
    """Serve until standard input ends."""
    serve_jobs(sys.stdin.buffer, sys.stdout.buffer, trainer_of)
