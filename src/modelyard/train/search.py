"""The search: trials one after another within the budget, each kept as soon as it ends."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from modelyard.core.arrays import Floats
from modelyard.core.candidate import ParamValue, Trial, TrialState
from modelyard.core.codec import decode, digest_file, digest_record, encode, encode_pretty
from modelyard.core.contract import Part
from modelyard.core.encoding import Head
from modelyard.core.ports import Progress, Spawn, Stages
from modelyard.core.space import Budget, Choice, Dimension, Fixed, Plan, Sampler
from modelyard.errors import CandidateFailed, DataError, TrainError
from modelyard.train.features import FeatureSet
from modelyard.train.fitter import Fitter
from modelyard.train.head import apply_head, fit_head
from modelyard.train.job import FitInfo, FitJob
from modelyard.train.ledger import Ledger
from modelyard.train.schedule import TOLERANCE, expected_trials, next_turn, seconds_left

TRIAL = "trial.json"
LEAST_TIMEOUT = 0.01  # of a budget in seconds; with `TOLERANCE` all a search may spend over it
PROBE_SHARE = 0.3  # of a budget in seconds that a candidate's first trial may take

Value = Callable[[Floats], float | None]


@dataclass(frozen=True)
class SearchPorts:
    """What a search needs of the outside."""

    stages: Stages
    spawn: Spawn
    sampler: Sampler
    progress: Progress
    monotonic: Callable[[], float]


@dataclass(frozen=True)
class Search:
    """What is searched: over which candidates, within which budget, judged by what.

    `value` gives the objective of answers to the validation rows, better when higher: probabilities
    (rows, classes), or values (rows, 1). `key` is the hash of all that went into the features.
    """

    features: FeatureSet
    plans: Sequence[Plan]
    budget: Budget
    seed: int
    value: Value
    key: str
    function_path: str
    work: Path


@dataclass(frozen=True)
class Tried:
    """A trial and the folder of its files: `model.onnx`, `valid.npy`, `head.json`, `fit.json`."""

    trial: Trial
    folder: Path

    def head(self) -> Head:
        return decode((self.folder / "head.json").read_bytes(), Head)

    def info(self) -> FitInfo:
        return decode((self.folder / "fit.json").read_bytes(), FitInfo)

    def answers(self) -> Floats:
        """Return the calibrated answers to the validation rows, from the fitted estimator itself."""
        return apply_head(self.head(), np.load(self.folder / "valid.npy"))


def search(task: Search, ports: SearchPorts) -> list[Tried]:
    """Run, or go on with, a search; raises TrainError when no trial of any candidate worked."""
    task.work.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(task.work / "spent.json", ports.monotonic)
    fitters = [Fitter(ports.spawn) for _ in range(task.budget.threads)]
    tried: list[Tried] = []
    ports.progress.stage("search", total=task.budget.seconds or task.budget.trials)
    try:
        while True:
            trials = [one.trial for one in tried]
            names = next_turn(task.plans, trials, task.budget, lost_s=ledger.lost_before(len(trials)))
            if not names:
                break
            tried.extend(_turn(task, ports, names, tried, ledger, fitters))
            _tell(task, ports, tried)
    finally:
        for fitter in fitters:
            fitter.close()
    if not any(one.trial.state is TrialState.DONE for one in tried):
        raise TrainError(
            "No candidate could be fitted:\n" + "\n".join(f"  {t.trial.candidate}: {t.trial.reason}" for t in tried)
        )
    return tried


def refit(task: Search, spawn: Spawn, chosen: Tried, predict: Mapping[str, Path], folder: Path) -> dict[str, Floats]:
    """Fit a trial again and return the estimator's own raw answers to other rows.

    Raises CandidateFailed if the second fit is not the first, byte for byte.
    """
    plan = next(plan for plan in task.plans if plan.name == chosen.trial.candidate)
    job = _job(task, plan, chosen.trial.params, chosen.trial.number, task.budget.trial_timeout_s * 2, folder)
    fitter = Fitter(spawn)
    try:
        end = fitter.fit(replace(job, predict={name: str(path) for name, path in predict.items()}), tick=lambda: None)
    finally:
        fitter.close()
    if end.state is not TrialState.DONE:
        raise CandidateFailed(f"`{plan.name}` could not be fitted again: {end.reason or end.state}.")
    if (folder / "model.onnx").read_bytes() != (chosen.folder / "model.onnx").read_bytes():
        raise CandidateFailed(f"`{plan.name}` fitted twice with the same seed gave two different models.")
    return {name: np.load(folder / f"{name}.npy") for name in predict}


@dataclass(frozen=True)
class _Draft:
    """A trial that is to be fitted, or was found in the store."""

    number: int
    plan: Plan
    params: dict[str, ParamValue]
    key: str
    found: Path | None


def _turn(
    task: Search, ports: SearchPorts, names: Sequence[str], tried: Sequence[Tried], ledger: Ledger,
    fitters: Sequence[Fitter],
) -> list[Tried]:  # fmt: skip
    """Take the trials of a turn from the store, or fit those that are not there side by side and keep them."""
    before = [one.trial for one in tried]
    ledger.begin(len(before))
    drafts = [_draft(task, ports, name, before, len(before) + place) for place, name in enumerate(names)]
    missing = [draft for draft in drafts if draft.found is None]
    kept = {draft.number: draft.found for draft in drafts if draft.found is not None}
    if missing:
        ledger.tick()  # from here a kill is seen, however short the fits
        probe = {trial.candidate for trial in before}.isdisjoint(names)
        timeout = _timeout_s(task.budget, before, ledger, probe=probe)
        with (
            tempfile.TemporaryDirectory(dir=task.work, prefix="turn-") as place,
            ThreadPoolExecutor(len(missing)) as pool,
        ):
            folders = {draft.number: Path(place) / str(draft.number) for draft in missing}
            ends = [
                pool.submit(_fit, task, draft, timeout, folders[draft.number], fitter, ledger)
                for draft, fitter in zip(missing, fitters, strict=False)
            ]
            try:
                trials = [end.result() for end in ends]
            except BaseException:
                for fitter in fitters:
                    fitter.cancel()  # else the pool would wait for the fits to end
                raise
            spent_s = ledger.close() / len(missing)
            for draft, trial in zip(missing, trials, strict=True):
                kept[draft.number] = _keep(ports, draft, replace(trial, spent_s=spent_s), folders[draft.number])
        ledger.end()  # only now: until the trials are kept, their seconds are the ledger's to remember
    return [_tried(kept[draft.number]) for draft in drafts]


def _draft(task: Search, ports: SearchPorts, name: str, before: Sequence[Trial], number: int) -> _Draft:
    plan = next(plan for plan in task.plans if plan.name == name)
    params = _params(task, ports.sampler, plan, before, number)
    key = _trial_key(task, plan, params, number)
    return _Draft(number=number, plan=plan, params=params, key=key, found=ports.stages.find(key))


def _fit(task: Search, draft: _Draft, timeout_s: float, folder: Path, fitter: Fitter, ledger: Ledger) -> Trial:
    """Fit one trial into a folder; runs beside the others of its turn."""
    folder.mkdir()
    job = _job(task, draft.plan, draft.params, draft.number, timeout_s, folder)
    end = fitter.fit(job, tick=ledger.tick)
    trial = Trial(
        number=draft.number, candidate=draft.plan.name, params=draft.params, state=end.state, reason=end.reason
    )
    return _finish(task, draft.plan, trial, folder) if end.state is TrialState.DONE else trial


def _keep(ports: SearchPorts, draft: _Draft, trial: Trial, folder: Path) -> Path:
    def build(place: Path) -> None:
        for path in folder.iterdir():
            shutil.move(path, place / path.name)
        (place / TRIAL).write_bytes(encode_pretty(trial))

    return ports.stages.keep(draft.key, build)


def _tried(folder: Path) -> Tried:
    return Tried(trial=decode((folder / TRIAL).read_bytes(), Trial), folder=folder)


def _timeout_s(budget: Budget, trials: Sequence[Trial], ledger: Ledger, *, probe: bool) -> float:
    """Return how long a fit may take: its own bound, or what is left of the budget, with a little over.

    A candidate's first trial gets a part of the budget only, so that a slow one does not cost the others theirs.
    """
    left = seconds_left(trials, budget, lost_s=ledger.lost_before(len(trials)))
    if left is None or budget.seconds is None:
        return budget.trial_timeout_s
    until_end = left - ledger.elapsed() + TOLERANCE * budget.seconds
    if probe:
        until_end = min(until_end, PROBE_SHARE * budget.seconds)
    return min(budget.trial_timeout_s, max(until_end, LEAST_TIMEOUT * budget.seconds))


def _trial_key(task: Search, plan: Plan, params: Mapping[str, ParamValue], number: int) -> str:
    """Return the hash of what a trial's outcome depends on; a budget in seconds is part of it, as it cuts fits off."""
    source = None if plan.function is None else source_digest(Path(task.function_path), plan.function)
    bounds = [task.budget.seconds, task.budget.trial_timeout_s, task.budget.memory_mb, task.budget.threads]
    return digest_record({"stage": "trial", "search": task.key, "plan": plan, "params": dict(params), "number": number,
                          "seed": task.seed, "bounds": bounds, "source": source})  # fmt: skip


def _finish(task: Search, plan: Plan, trial: Trial, folder: Path) -> Trial:
    """Calibrate, score the validation rows and write the head."""
    info = decode((folder / "fit.json").read_bytes(), FitInfo)
    features = task.features
    weight = features.weight(Part.CALIBRATE)
    try:
        head = fit_head(
            np.load(folder / f"{Part.CALIBRATE}.npy"),
            np.load(features.target(Part.CALIBRATE)),
            None if weight is None else np.load(weight),
            kind=info.raw,
            classes=features.contract.classes,
            calibrate=plan.calibrate,
            scale=features.scale,
        )
        value = task.value(apply_head(head, np.load(folder / f"{Part.VALID}.npy")))
    except DataError as fault:  # answers that are no probabilities, say
        return replace(trial, state=TrialState.REFUSED, reason=str(fault), fit_s=info.fit_s)
    (folder / "head.json").write_bytes(encode(head))
    if value is None:
        return replace(trial, state=TrialState.REFUSED, reason="the objective is not defined on the validation rows")
    if info.refusal:
        reason = f"compared, and cannot be sealed: {info.refusal} (objective on the validation rows: {value:.6g})"
        return replace(trial, state=TrialState.REFUSED, reason=reason, fit_s=info.fit_s)
    return replace(trial, value=value, fit_s=info.fit_s, facts=info.facts)


def _job(
    task: Search, plan: Plan, params: Mapping[str, ParamValue], number: int, timeout_s: float, folder: Path
) -> FitJob:
    features = task.features
    weight = features.weight(Part.TRAIN)
    return FitJob(
        trainer=plan.algorithm,
        function=plan.function,
        function_path=task.function_path,
        params=dict(params),
        seed=seed_of(task.seed, number),
        threads=1,  # see schedule.py: trials run side by side instead
        memory_mb=task.budget.memory_mb,
        timeout_s=timeout_s,
        classes=len(features.contract.classes),
        class_weight=plan.class_weight,
        names=features.encodings[plan.encoding].names,
        features=str(features.matrix(plan.encoding, Part.TRAIN)),
        target=str(features.target(Part.TRAIN)),
        weight=None if weight is None else str(weight),
        predict={part: str(features.matrix(plan.encoding, part)) for part in (Part.CALIBRATE, Part.VALID)},
        folder=str(folder),
    )


def _params(task: Search, sampler: Sampler, plan: Plan, before: Sequence[Trial], number: int) -> dict[str, ParamValue]:
    """Return the defaults for a candidate's first trial, what the sampler proposes for any later one."""
    own = [trial for trial in before if trial.candidate == plan.name]
    if not own:
        return {name: default_of(dimension) for name, dimension in plan.space.items()}
    done = [(trial.params, trial.value) for trial in own if trial.value is not None]
    return sampler.propose(plan.space, done, seed=seed_of(task.seed, number))


def default_of(dimension: Dimension) -> ParamValue:
    """Return what the first trial takes of a dimension."""
    if isinstance(dimension, Fixed):
        return dimension.value
    if isinstance(dimension, Choice):
        return dimension.values[0]
    middle = (dimension.low * dimension.high) ** 0.5 if dimension.log else (dimension.low + dimension.high) / 2
    value = dimension.default if dimension.default is not None else middle
    return round(value) if dimension.integer else float(value)


def source_digest(folder: Path, function: str) -> str | None:
    """Return the hash of the user's own module, or of the whole package it is in; None where it is installed."""
    top = function.partition(":")[0].partition(".")[0]
    package = folder / top
    files = sorted(package.rglob("*.py")) if package.is_dir() else [folder / f"{top}.py"]
    found = {path.relative_to(folder).as_posix(): digest_file(path) for path in files if path.is_file()}
    return digest_record(found) if found else None


def seed_of(seed: int, number: int) -> int:
    """Return the seed of a trial: a hash of the run's seed and the trial's number, below 2**31."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4], "big") % 2**31


def _tell(task: Search, ports: SearchPorts, tried: Sequence[Tried]) -> None:
    trials = [one.trial for one in tried]
    best = max((trial.value for trial in trials if trial.value is not None), default=None)
    spent = sum(trial.spent_s for trial in trials) if task.budget.seconds is not None else len(trials)
    last = trials[-1]
    outcome = f"{last.value:.5g}" if last.value is not None else f"{last.state}: {last.reason}"
    note = (
        f"trial {len(trials)} of about {expected_trials(task.plans, trials, task.budget)}: {last.candidate} {outcome}"
    )
    ports.progress.advance(spent, note if best is None else f"{note}, best {best:.5g}")
