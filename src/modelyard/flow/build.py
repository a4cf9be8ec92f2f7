"""From a spec to a sealed release: read this first.

Each stage is kept under the hash of what went into it, so a build that was killed goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard import data
from modelyard.bundle.open import read_body
from modelyard.core.candidate import Scored
from modelyard.core.clock import stamp
from modelyard.core.codec import decode, digest_record, encode_pretty
from modelyard.core.contract import Part, Prepared
from modelyard.core.evidence import BuildEvidence, Evaluation, Evidence, Lineage, Payload
from modelyard.core.machine import fingerprint
from modelyard.core.release import Release
from modelyard.core.run import RunState
from modelyard.errors import GateError, TooManyMalformed, UsageError
from modelyard.evaluate.choose import choose
from modelyard.evaluate.evaluation import Question, require
from modelyard.flow.contenders import Packed, contenders_of, failed_rows
from modelyard.flow.gate import Gated, first_to_hold
from modelyard.flow.making import Making
from modelyard.flow.ports import Ports
from modelyard.flow.stage import StageLog
from modelyard.flow.sweep import swept
from modelyard.flow.translate import check_against_data, data_plan, label_rules, value_of
from modelyard.release.pack import body_digest
from modelyard.rollout.claims import claims
from modelyard.serve.guard.fallback import order
from modelyard.spec.load import LoadedSpec
from modelyard.spec.system import Environment
from modelyard.train.features import FeatureSet, build_features, open_features
from modelyard.train.search import Search, SearchPorts, Tried, search

PREPARED = "prepared.json"
QUARANTINE = "quarantine.jsonl"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A build that reached its end: the release, or why there is none, and all that was measured."""

    release: Release | None
    refusal: GateError | None
    evidence: BuildEvidence
    body: Path


def build(loaded: LoadedSpec, ports: Ports) -> Built:
    """Build a spec into a sealed release.

    A build whose requirements do not let it pass has no release and says why in `refusal`.
    Raises: SpecFaults, DataError, TrainError, ParityBroken, BundleFormat where a fallback could not answer,
    UsageError without the ticket of a change, or where an experiment could not compare its primary metric.
    """
    skipped = check_ticket(loaded, ports.change_ticket)
    claims(loaded.spec.requirement_records(), loaded.spec.policy())  # raises where an experiment could not compare
    run = ports.runs.begin(loaded.spec.name, loaded.digest)
    with ports.audit.change("run", resources=(loaded.spec.name, run), rollback_available=True) as note:
        note["skipped"] = skipped
        try:
            built = _build(loaded, ports, run)
        except BaseException:
            ports.runs.finish(run, RunState.FAILED)
            raise
        note["release"] = None if built.release is None else str(built.release.id)
        note["body"] = body_digest(built.body)
        note["refusal"] = None if built.refusal is None else list(built.refusal.reasons)
        ports.runs.finish(run, RunState.DONE)
    return built


def check_ticket(loaded: LoadedSpec, ticket: str | None) -> list[str]:
    """Return what a change may skip for want of a ticket; raises UsageError where it may skip nothing."""
    if ticket is not None:
        return []
    if loaded.spec.environment is Environment.PRODUCTION:
        raise UsageError(
            f"`{loaded.file}` says `environment: production`: a change there needs a ticket. "
            "Set MODELYARD_CHANGE_TICKET to its number."
        )
    return ["change ticket"]


def _build(loaded: LoadedSpec, ports: Ports, run: str) -> Built:
    started, log = stamp(ports.clock.now()), StageLog(ports)
    prepared, parts, data_key = prepare(loaded, ports, log)
    check_against_data(loaded, prepared.contract)
    features, features_key = _features(prepared, parts, data_key, ports, log)
    task = _search_task(loaded, ports, features, features_key)
    with log.timed("search"):
        tried = search(task, _search_ports(ports))
    making = Making(
        loaded=loaded,
        ports=ports,
        log=log,
        prepared=prepared,
        parts=parts,
        task=task,
        question=_question(loaded, prepared),
        valid=ports.tables.read(parts / f"{Part.VALID}.parquet"),
    )
    packed = contenders_of(making, tried)
    order(read_body(next(iter(packed.values())).body), None)  # raises where a fallback could not answer
    gated = first_to_hold(making, _choose(making, packed), packed)
    try:
        require(gated.evaluation.judgements, where=f"`{loaded.spec.name}` cannot be sealed")
    except GateError as refusal:
        evidence = _evidence(making, run, started, tried, gated)
        return Built(release=None, refusal=refusal, evidence=evidence, body=gated.packed.body)
    sweep = swept(making, gated.packed.body)
    evidence = _evidence(making, run, started, tried, gated)
    release = _seal(making, gated, (evidence, sweep))
    return Built(release=release, refusal=None, evidence=evidence, body=gated.packed.body)


def prepare(loaded: LoadedSpec, ports: Ports, log: StageLog) -> tuple[Prepared, Path, str]:
    """Load, check and split the table; return what is known of it, its folder and its key."""
    plan = data_plan(loaded)
    key = log.key("data", {"plan": plan, "sources": data.digest_sources(plan)})

    def fill(folder: Path) -> None:
        try:
            prepared = data.prepare(plan, folder, progress=ports.progress)
        except TooManyMalformed as fault:
            aside = ports.work / f"{loaded.spec.name}.quarantine.jsonl"
            shutil.copy(folder / QUARANTINE, aside)  # the folder goes with the failed stage
            raise TooManyMalformed(f"{fault} All of these rows are in `{aside}`.") from fault
        (folder / PREPARED).write_bytes(encode_pretty(prepared))

    folder = log.keep("data", key, fill)
    return decode((folder / PREPARED).read_bytes(), Prepared), folder, key


def _features(prepared: Prepared, parts: Path, data_key: str, ports: Ports, log: StageLog) -> tuple[FeatureSet, str]:
    key = log.key("features", {"data": data_key})

    def fill(folder: Path) -> None:
        build_features(prepared, parts, folder, tables=ports.tables, graphs=ports.graphs, loader=ports.loader)

    return open_features(log.keep("features", key, fill)), key


def _search_task(loaded: LoadedSpec, ports: Ports, features: FeatureSet, key: str) -> Search:
    spec = loaded.spec
    plans = spec.plans()
    budget = spec.budget.in_effect()
    objective = spec.objective_for(features.contract.task)
    name = digest_record({"features": key, "plans": plans, "budget": budget, "seed": spec.seed, "objective": objective})
    return Search(
        features=features,
        plans=plans,
        budget=budget,
        seed=spec.seed,
        value=value_of(spec, features, objective),
        key=digest_record({"features": key, "objective": objective, "labels": label_rules(spec, objective)}),
        function_path=str(loaded.path.parent),
        work=ports.work / name[:32],
    )


def _search_ports(ports: Ports) -> SearchPorts:
    return SearchPorts(
        stages=ports.stages,
        spawn=ports.spawn,
        sampler=ports.sampler,
        progress=ports.progress,
        monotonic=ports.monotonic,
    )


def _question(loaded: LoadedSpec, prepared: Prepared) -> Question:
    spec = loaded.spec
    return Question(
        contract=prepared.contract,
        requirements=spec.requirement_records(),
        objective=spec.objective_for(prepared.contract.task),
        price_per_cpu_hour=spec.serving.price_per_cpu_hour,
        seed=spec.seed,
    )


def _choose(making: Making, packed: dict[str, Packed]) -> tuple[Scored, ...]:
    """Return the candidate table; kept, so that a resumed build does not choose again by other timings."""
    question = making.question
    key = making.log.key("choice", {
        "bodies": {name: body_digest(one.body) for name, one in packed.items()},
        "requirements": question.requirements, "objective": question.objective,
        "price": question.price_per_cpu_hour,
    })  # fmt: skip

    def fill(folder: Path) -> None:
        table = choose(question, making.valid, [one.contender(making.ports) for one in packed.values()])
        (folder / "candidates.json").write_bytes(encode_pretty(table))

    return decode((making.log.keep("choice", key, fill) / "candidates.json").read_bytes(), tuple[Scored, ...])


def _evidence(making: Making, run: str, started: str, tried: Sequence[Tried], gated: Gated) -> BuildEvidence:
    budget = making.task.budget
    lineage = Lineage(
        spec_digest=making.loaded.digest,
        data_digest=making.prepared.data_digest,
        code_version=making.ports.code_version,
        run=run,
        started=started,
        finished=stamp(making.ports.clock.now()),
        machine=fingerprint(),
        test_rows_seen_by=gated.test_rows_seen_by,
        stages=making.log.outcomes(),
    )
    return BuildEvidence(
        prepared=making.prepared,
        candidates=(*gated.table, *failed_rows(making, tried)),
        trials=tuple(one.trial for one in tried),
        budget=f"{budget.trials} trials" if budget.trials is not None else f"{budget.seconds:g} s",
        chosen=gated.packed.plan.name,
        threshold=gated.packed.threshold,
        threshold_reason=gated.packed.threshold_reason,
        evaluation=gated.evaluation,
        parity=gated.parity,
        lineage=lineage,
    )


def _seal(making: Making, gated: Gated, payloads: Sequence[Payload]) -> Release:
    name, ports = making.loaded.spec.name, making.ports
    body, now = body_digest(gated.packed.body), stamp(ports.clock.now())
    records = [Evidence(release=name, body=body, recorded=now, payload=payload) for payload in payloads]
    return ports.releases.seal(
        name,
        gated.packed.body,
        records,
        headline=_headline(gated.evaluation, making.question.objective),
        spec_digest=making.loaded.digest,
    )


def _headline(evaluation: Evaluation, objective: str) -> str:
    seen = next(one for one in evaluation.observations if one.metric == objective)
    if seen.value is None or seen.low is None or seen.high is None:
        return f"{objective} not measured: {seen.method}"
    share = f"{seen.confidence:.0%}"
    return f"{objective} {seen.value:.4f} ({share} {seen.low:.4f} to {seen.high:.4f}, {seen.samples} test rows)"
