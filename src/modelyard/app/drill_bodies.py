"""The bodies that a copy of a service runs: the sealed one, the one behind it, and a spoilt one where a drill asks."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import msgspec
from msgspec.structs import replace

from modelyard.adapters.onnx_engine import OnnxLoader
from modelyard.adapters.onnx_harm import Harm, spoilt
from modelyard.bundle.check import check_rows
from modelyard.bundle.format import GRAPH, MANIFEST, FileEntry
from modelyard.bundle.open import matches_golden, open_bundle, read_body, read_manifest
from modelyard.core.codec import digest, digest_file, encode
from modelyard.core.release import Release
from modelyard.errors import CannotRehearse, ContractBroken
from modelyard.serve.messages import BodyRef, SupervisorJob
from modelyard.store.releases import DatabaseReleases

SPOILT = {
    "worker_slow": Harm.SLOW,
    "out_of_memory": Harm.MEMORY,
    "nan_outputs": Harm.NAN,
    "wrong_outputs": Harm.WRONG,
}
TRIAL_TURNS = 50
SLOW_SHARE = 0.5  # of the deadline, and of the time after which a worker counts as hung
MEMORY_TIMES = 1.2  # the bound of a worker's memory, in what a spoilt graph asks for
MOST_BODIES = 256


class Copied(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What copies are made of."""

    release: str  # that is rehearsed
    behind: str  # that a rollback goes to
    behind_told: str  # what that is, in words
    spoilt: str  # the name of a release gone wrong
    bodies: dict[str, BodyRef]
    job: SupervisorJob
    requests: tuple[bytes, ...]
    golden_rows: int


def copied(release: Release, releases: DatabaseReleases, job: SupervisorJob) -> Copied:
    """Return what copies of a service of this release are made of."""
    folder = releases.body(release.id)
    body = read_body(folder)
    ref = BodyRef(folder=str(folder), digest=release.body)
    name, numbers = release.id.name, [one.id.number for one in releases.all(release.id.name)]
    bodies = {str(release.id): ref, **_variants(folder, releases)}
    before = _before(release, releases)
    if before is None:
        behind = f"{name}@{max(numbers) + 1}"
        bodies[behind], told = ref, f"the same body as {behind}, since no release before it takes the same requests"
    else:
        behind, told = str(before.id), str(before.id)
        bodies[behind] = BodyRef(folder=str(releases.body(before.id)), digest=before.body)
    golden = body.golden.rows
    return Copied(
        release=str(release.id),
        behind=behind,
        behind_told=told,
        spoilt=f"{name}@{max(numbers) + 2}",
        bodies=bodies,
        job=job,
        requests=tuple(msgspec.json.encode({"rows": [row]}) for row in golden[:MOST_BODIES]),
        golden_rows=len(golden),
    )


def spoil(kind: str, copied: Copied, folder: Path) -> BodyRef:
    """Write the body of a release gone wrong into a new folder; raises CannotRehearse where it cannot be told apart."""
    harm, sealed = SPOILT[kind], Path(copied.bodies[copied.release].folder)
    if copied.golden_rows < 2:
        raise CannotRehearse(
            "The body has a single golden row, so that a release which is wrong for callers alone cannot be made of it."
        )
    amount = 0
    if harm is Harm.MEMORY:
        if copied.job.memory_mb is None:
            raise CannotRehearse(
                "Nothing bounds the memory of a worker: set `serving.memory_mb`, or let a build measure it."
            )
        amount = int(MEMORY_TIMES * copied.job.memory_mb * 1024 * 1024 / 4)
    elif harm is Harm.SLOW:
        trial = folder.with_name(f"{folder.name}-trial")
        _write(sealed, trial, harm, copied.golden_rows, TRIAL_TURNS)
        limits = copied.job.limits
        wanted_s = SLOW_SHARE * min(limits.deadline_ms / 1000, limits.progress_timeout_s)
        amount = max(1, round(TRIAL_TURNS * wanted_s / _seconds(trial, copied.job.threads)))
    ref = _write(sealed, folder, harm, copied.golden_rows, amount)
    _check(folder, harm, copied.job.threads)
    return ref


def _check(folder: Path, harm: Harm, threads: int) -> None:
    """Raise CannotRehearse unless a spoilt body loads and answers its golden requests as the drill needs it."""
    bundle = open_bundle(folder, OnnxLoader(), threads=threads)
    try:
        golden = bundle.body.golden
        if matches_golden(bundle.predict(golden.rows), golden) is (harm is Harm.WRONG):
            raise CannotRehearse(f"No body could be made of this one that is `{harm}` and is wrong for callers alone.")
    finally:
        bundle.close()


def _write(sealed: Path, folder: Path, harm: Harm, golden_rows: int, amount: int) -> BodyRef:
    shutil.copytree(sealed, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700)
    data = spoilt((sealed / GRAPH).read_bytes(), harm, golden_rows=golden_rows, amount=amount)
    (folder / GRAPH).write_bytes(data)
    manifest = read_manifest(folder)
    files = manifest.files | {GRAPH: FileEntry(size=len(data), sha256=digest(data))}
    (folder / MANIFEST).write_bytes(encode(replace(manifest, files=files)))
    return BodyRef(folder=str(folder), digest=digest_file(folder / MANIFEST))


def _seconds(folder: Path, threads: int) -> float:
    """Return how long a body takes for one row, the quickest of a few times."""
    bundle = open_bundle(folder, OnnxLoader(), threads=threads)
    try:
        rows, times = bundle.body.golden.rows[:1], []
        for _ in range(4):
            began = time.perf_counter()
            bundle.predict(rows)
            times.append(time.perf_counter() - began)
        return min(times)
    finally:
        bundle.close()


def _before(release: Release, releases: DatabaseReleases) -> Release | None:
    """Return the newest release before this one that takes the requests that this one takes."""
    rows = read_body(releases.body(release.id)).golden.rows
    for one in reversed(releases.all(release.id.name)):
        if one.id.number < release.id.number and one.collected is None and one.body != release.body:
            body = read_body(releases.body(one.id))
            with contextlib.suppress(ContractBroken):
                check_rows(body.contract, rows, unknown_category=body.manifest.unknown_category)
                return one
    return None


def _variants(folder: Path, releases: DatabaseReleases) -> dict[str, BodyRef]:
    """Return the bodies that the fallbacks of a body name."""
    found = {}
    for entry in read_manifest(folder).fallback:
        if entry.get("kind") == "variant" and isinstance(entry.get("release"), str):
            sealed = releases.get(entry["release"])
            found[entry["release"]] = BodyRef(folder=str(releases.body(sealed.id)), digest=sealed.body)
    return found
