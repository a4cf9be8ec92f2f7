"""The fitting process: it imports the libraries once, then forks a bounded child for each job."""

from __future__ import annotations

import contextlib
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

from modelyard.core.arrays import Array, Floats, Singles
from modelyard.core.candidate import TrialState
from modelyard.core.codec import decode, encode
from modelyard.core.training import Fitted, Trainer, TrainingSet
from modelyard.errors import ModelyardError, NotConvertible
from modelyard.train.job import FitEnd, FitInfo, FitJob

OUT_OF_MEMORY = 77  # exit status of a child that ran into its memory bound
FAILED = 78  # exit status of a child that wrote its reason
REFUSED = 79  # exit status of a child whose estimator cannot be told as a graph
REASON = "reason.txt"
INFO = "fit.json"  # written last
NO_MEMORY = ("bad_alloc", "Cannot allocate memory", "Unable to allocate")
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
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            _, peak_mb = _reap(child)
            reason = f"took longer than {job.timeout_s:.1f} s"
            return FitEnd(state=TrialState.TIMED_OUT, reason=reason, peak_mb=peak_mb)
        if select.select([watched] if watched is not None else [], [], [], TICK_S)[0]:
            _reap(child)
            sys.exit(0)  # the one who asked is gone
    return _end(job, *_reap(child))


def _reap(child: int) -> tuple[int, float]:
    """Kill whatever is left of a child and of the processes it started; return its status and peak in MB."""
    for kill in (os.killpg, os.kill):  # the group is there once the child has made it
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return status, usage.ru_maxrss / 1000


def _end(job: FitJob, status: int, peak_mb: float) -> FitEnd:
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        if peak_mb >= 0.9 * job.memory_mb:
            return FitEnd(state=TrialState.OUT_OF_MEMORY, reason=f"{name} near {job.memory_mb} MB", peak_mb=peak_mb)
        return FitEnd(state=TrialState.CRASHED, reason=f"killed by {name}", peak_mb=peak_mb)
    code = os.WEXITSTATUS(status)
    folder = Path(job.folder)
    if code == 0 and (folder / INFO).exists():
        return FitEnd(state=TrialState.DONE, peak_mb=peak_mb)
    if code == OUT_OF_MEMORY:
        reason = f"needed more than the {job.memory_mb} MB of `budget.memory_mb`"
        return FitEnd(state=TrialState.OUT_OF_MEMORY, reason=reason, peak_mb=peak_mb)
    reason = f"the fitting child ended by itself with status {code}"
    if code in (FAILED, REFUSED) and (folder / REASON).exists():
        reason = (folder / REASON).read_text(encoding="utf-8", errors="replace")[:MOST_REASON]
    state = TrialState.REFUSED if code == REFUSED else TrialState.CRASHED
    return FitEnd(state=state, reason=reason, peak_mb=peak_mb)


def _bounded(job: FitJob, trainer_of: TrainerOf) -> None:
    """Fit under the job's bounds, in the child; never returns."""
    code = FAILED
    try:
        _alone()
        bound = job.memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
        fit(job, trainer_of(job))
        code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    except BaseException as fault:  # noqa: BLE001 - whatever the fit raises is its row's reason, a SystemExit too
        text = str(fault) if isinstance(fault, ModelyardError) else traceback.format_exception_only(fault)[-1].strip()
        if any(sign in text for sign in NO_MEMORY):
            code = OUT_OF_MEMORY
        elif isinstance(fault, NotConvertible):
            code = REFUSED
        (Path(job.folder) / REASON).write_text(text[:MOST_REASON], encoding="utf-8", errors="replace")
    finally:
        os._exit(code)


def _alone() -> None:
    """Cut this process off from what belongs to the one that forked it."""
    parent = os.getppid()
    os.setpgid(0, 0)  # so that what it starts can be ended with it
    if sys.platform == "linux":  # elsewhere it just runs out
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(FAILED)  # the parent ended in between
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # jobs come by the first, answers go by the second
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fit(job: FitJob, trainer: Trainer) -> None:
    """Fit one job in this process and write the answers, `model.onnx` and, last, `fit.json`."""
    target = np.load(job.target)
    absent = np.setdiff1d(np.arange(job.classes), target)
    if len(absent):
        raise ValueError(f"no training row is of class number {absent[0]}, so no estimator can answer for it")
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
    for name, path in job.predict.items():
        np.save(folder / f"{name}.npy", _answers(fitted, np.load(path, mmap_mode="r"), name, job.classes))
    if not fitted.refusal:
        (folder / "model.onnx").write_bytes(fitted.graph)
    info = FitInfo(raw=fitted.raw, fit_s=fit_s, facts=dict(fitted.facts), refusal=fitted.refusal)
    (folder / INFO).write_bytes(encode(info))


def _answers(fitted: Fitted, rows: Singles, name: str, classes: int) -> Floats:
    """Return the estimator's own answers (rows, outputs); raises ValueError where they are none."""
    wanted = (len(rows), classes if classes > 2 else 1)
    if not len(rows):  # which some libraries refuse
        return np.empty(wanted)
    raw = np.asarray(fitted.predict(rows), dtype=np.float64)
    if raw.shape != wanted:
        raise ValueError(f"the fitted estimator answers the {name} rows with the shape {raw.shape}, wanted {wanted}")
    if not np.all(np.isfinite(raw)):
        raise ValueError(f"the fitted estimator answers the {name} rows with NaN or infinities")
    return raw


def _weights(job: FitJob, target: Array) -> Floats | None:
    """Return the rows' weights, times what makes every class weigh the same where that is asked for."""
    weight = None if job.weight is None else np.load(job.weight)
    if job.class_weight != "balanced" or not job.classes:
        return weight
    rows = np.ones(len(target)) if weight is None else weight
    mass = np.bincount(target, weights=rows, minlength=job.classes)
    return np.asarray(rows * (rows.sum() / (job.classes * np.maximum(mass, 1e-12)))[target])
