"""The fitting process: it imports the libraries once, then forks a bounded child for each job."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from modelyard.core.arrays import Array, Floats
from modelyard.core.candidate import TrialState
from modelyard.core.codec import decode, encode
from modelyard.core.training import Trainer, TrainingSet
from modelyard.errors import ModelyardError
from modelyard.train.job import FitEnd, FitInfo, FitJob

OUT_OF_MEMORY = 77  # exit status of a child that ran into its memory bound
FAILED = 78  # exit status of a child that wrote its reason
REASON = "reason.txt"
MOST_REASON = 2000  # characters
TICK_S = 0.02

TrainerOf = Callable[[FitJob], Trainer]


def serve_jobs(stdin: BinaryIO, stdout: BinaryIO, trainer_of: TrainerOf) -> None:
    """Answer each line of `stdin`, a FitJob, with a line, a FitEnd; end when `stdin` does."""
    while line := stdin.readline():
        job = decode(line, FitJob)
        stdout.write(encode(run(job, trainer_of, stdin)) + b"\n")
        stdout.flush()


def run(job: FitJob, trainer_of: TrainerOf, watched: BinaryIO | None = None) -> FitEnd:
    """Fit in a forked child and say how it ended; if `watched` ends first, the child is killed."""
    try:
        trainer_of(job)  # imports the library here, once, so that every child has it already
    except ModelyardError as fault:
        return FitEnd(state=TrialState.CRASHED, reason=str(fault))
    child = os.fork()
    if child == 0:
        _bounded(job, trainer_of)
    deadline = time.monotonic() + job.timeout_s
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return _end(job, status, usage.ru_maxrss / 1000)
        if time.monotonic() > deadline:
            return _kill(child, f"took longer than {job.timeout_s:.1f} s")
        if watched is not None and select.select([watched], [], [], TICK_S)[0]:
            _kill(child, "")
            sys.exit(0)  # the one who asked is gone


def _kill(child: int, reason: str) -> FitEnd:
    os.kill(child, signal.SIGKILL)
    _, _, usage = os.wait4(child, 0)
    return FitEnd(state=TrialState.TIMED_OUT, reason=reason, peak_mb=usage.ru_maxrss / 1000)


def _end(job: FitJob, status: int, peak_mb: float) -> FitEnd:
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        if peak_mb >= 0.9 * job.memory_mb:
            return FitEnd(state=TrialState.OUT_OF_MEMORY, reason=f"{name} near {job.memory_mb} MB", peak_mb=peak_mb)
        return FitEnd(state=TrialState.CRASHED, reason=f"killed by {name}", peak_mb=peak_mb)
    code = os.WEXITSTATUS(status)
    if code == 0:
        return FitEnd(state=TrialState.DONE, peak_mb=peak_mb)
    if code == OUT_OF_MEMORY:
        reason = f"needed more than the {job.memory_mb} MB of `budget.memory_mb`"
        return FitEnd(state=TrialState.OUT_OF_MEMORY, reason=reason, peak_mb=peak_mb)
    path = Path(job.folder) / REASON
    reason = path.read_text() if code == FAILED and path.exists() else f"exit status {code}"
    return FitEnd(state=TrialState.CRASHED, reason=reason, peak_mb=peak_mb)


def _bounded(job: FitJob, trainer_of: TrainerOf) -> None:
    """Fit under the job's bounds, in the child; never returns."""
    code = FAILED
    try:
        _die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)  # stdout carries the answers
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        bound = job.memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
        fit(job, trainer_of(job))
        code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    except BaseException as fault:  # noqa: BLE001 - whatever the fit raises is its row's reason, a SystemExit too
        text = str(fault) if isinstance(fault, ModelyardError) else traceback.format_exception_only(fault)[-1].strip()
        if "bad_alloc" in text or "Cannot allocate memory" in text or "Unable to allocate" in text:
            code = OUT_OF_MEMORY
        (Path(job.folder) / REASON).write_text(text[:MOST_REASON])
    finally:
        os._exit(code)


def fit(job: FitJob, trainer: Trainer) -> None:
    """Fit one job in this process and write `model.onnx`, the answers and `fit.json`."""
    target = np.load(job.target)
    data = TrainingSet(
        features=np.load(job.features, mmap_mode="r"),
        target=target,
        weight=_weights(job, target),
        classes=job.classes,
        names=job.names,
    )
    begun = time.monotonic()
    fitted = trainer.fit(data, job.params, seed=job.seed, threads=job.threads)
    fit_s = time.monotonic() - begun
    folder = Path(job.folder)
    (folder / "model.onnx").write_bytes(fitted.graph)
    for name, path in job.predict.items():
        raw = np.asarray(fitted.predict(np.load(path, mmap_mode="r")), dtype=np.float64)
        if not np.all(np.isfinite(raw)):
            raise ValueError(f"the fitted estimator answers the {name} rows with NaN or infinities")
        np.save(folder / f"{name}.npy", raw)
    info = FitInfo(raw=fitted.raw, fit_s=fit_s, facts=dict(fitted.facts))
    (folder / "fit.json").write_bytes(encode(info))


def _weights(job: FitJob, target: Array) -> Floats | None:
    """Return the rows' weights, times what makes every class weigh the same where that is asked for."""
    weight = None if job.weight is None else np.load(job.weight)
    if job.class_weight != "balanced" or not job.classes:
        return weight
    rows = np.ones(len(target)) if weight is None else weight
    mass = np.bincount(target, weights=rows, minlength=job.classes)
    return np.asarray(rows * (rows.sum() / (job.classes * np.maximum(mass, 1e-12)))[target])


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the one that forked it ends; elsewhere it just runs out."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
