"""Drills as a person calls them, over real copies; and what production asks of a release before it answers there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from modelyard.app.guardian import marked
from modelyard.app.way_back import drill_max_age_s
from modelyard.bundle.format import MANIFEST, SPEC_IN_EFFECT, FileEntry, Manifest
from modelyard.core.clock import SystemClock, stamp
from modelyard.core.codec import decode, digest, encode
from modelyard.core.drill import DEFAULT_DRILLS, Drilled, DrillEvidence, Outcome
from modelyard.core.evidence import Evidence
from modelyard.core.ids import ReleaseId
from modelyard.core.machine import fingerprint
from tests.journeys.making import Place, ours
from tests.journeys.own import until
from tests.journeys.shared import copy_of

SPEC = {
    "environment": "production",
    "rollout": {"drills": ["rollback_service", "worker_killed"], "drill_max_age_days": 3},
}
BEHIND, PRODUCTION = ReleaseId(name="shop", number=1), "shop@2"


@pytest.fixture(scope="module")
def own(shop: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with `shop@1` of a sandbox, and the same as `shop@2` of production."""
    place = copy_of(shop, tmp_path_factory.mktemp("drill"))
    folder = place.folder / "second"
    with place.app.store() as store:
        first = store.releases.get(BEHIND)
        shutil.copytree(store.releases.body(BEHIND), folder)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o700)
        data = encode(json.loads((folder / SPEC_IN_EFFECT).read_bytes()) | SPEC)
        (folder / SPEC_IN_EFFECT).write_bytes(data)
        manifest = decode((folder / MANIFEST).read_bytes(), Manifest)
        files = manifest.files | {SPEC_IN_EFFECT: FileEntry(size=len(data), sha256=digest(data))}
        (folder / MANIFEST).write_bytes(encode(replace(manifest, files=files)))
        store.releases.seal("shop", folder, [], headline="of production", spec_digest=first.spec_digest)
    return place


@pytest.fixture(autouse=True)
def no_process_stays(own: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it is looked for once more
    yield
    own.quick("stop", "shop")
    until(lambda: not ours(own.home), timeout_s=10)
    assert list(tmp_path.glob("modelyard-drill-*")) == []


def drills_of(place: Place, ref: str) -> list[DrillEvidence]:
    with place.app.store() as store:
        records = store.releases.evidence(store.releases.get(ref).id)
    return [record.payload for _, record in records if isinstance(record.payload, DrillEvidence)]


def drilled_here(place: Place, id: ReleaseId, outcome: Outcome, *, days_ago: float = 0.0) -> None:
    """Put a drill of the way back on a release's record."""
    now = stamp(SystemClock().now() - timedelta(days=days_ago))
    done = Drilled(kind="rollback_service", outcome=outcome, why="as it went", began=now, limit_s=5.0, sent=9)
    payload = DrillEvidence(machine=fingerprint(), rate=50.0, way_back="shop@2", drills=(done,))
    with place.app.store() as store:
        body = store.releases.get(id).body
        store.releases.evidence(id, append=Evidence(release=str(id), body=body, recorded=now, payload=payload))


def test_the_drills_of_the_spec_pass_on_copies_and_are_on_record(own: Place) -> None:
    done = own.quick("drill", PRODUCTION, "--json")
    assert done.code == 0, done.out
    killed, back = done.json["evidence"]["drills"]
    assert (killed["kind"], back["kind"]) == ("worker_killed", "rollback_service")
    assert killed["detection_s"] is not None and back["detection_s"] is None
    for one in (killed, back):
        assert one["sent"] > 0 and one["lost"] == one["changes_lost"] == 0 and one["recovery_s"] is not None
    assert back["failed"] == back["degraded"] == 0 and back["changes"] == 2
    (record,) = drills_of(own, PRODUCTION)
    assert record.machine == fingerprint() and record.way_back == "shop@1"
    lines = [one for one in own.quick("audit", "--json").json if one["operation"] == "drill"]
    assert [one["outcome"] for one in lines] == ["started", "done"]
    assert lines[-1]["model_metadata"]["outcomes"]["worker_killed"] == "passed"
    page = own.folder / "report.html"
    assert own.quick("report", PRODUCTION, "--out", str(page)).code == 0
    assert 'id="drills"' in page.read_text()


def test_an_unknown_drill_starts_nothing(own: Place) -> None:
    refused = own.quick("drill", "shop@1", "--only", "worker_tired")
    assert refused.code == 2 and "There is no drill `worker_tired`" in refused.err


def test_how_long_a_drill_counts_is_what_the_sealed_spec_says(own: Place, tmp_path: Path) -> None:
    with own.app.store() as store:
        bodies = [store.releases.body(store.releases.get(ref).id) for ref in ("shop@1", PRODUCTION)]
    assert [drill_max_age_s(body) / 86_400 for body in bodies] == [30, 3]
    (tmp_path / SPEC_IN_EFFECT).write_text('{"modelyard": 1, "name": "shop"}')  # from before there was such a line
    assert drill_max_age_s(tmp_path) / 86_400 == 30


def test_production_deploys_only_what_can_be_taken_back(own: Place) -> None:
    assert own.call("serve", PRODUCTION, "--port", "0", "--detach").code == 0
    refused = own.quick("deploy", "shop@1")
    assert refused.code == 2 and "modelyard drill shop@1" in refused.err and "never" in refused.err
    drilled_here(own, BEHIND, Outcome.PASSED, days_ago=31)
    assert "more than 30" in own.quick("deploy", "shop@1").err
    drilled_here(own, BEHIND, Outcome.FAILED)
    assert "did not pass" in own.quick("deploy", "shop@1").err
    drilled_here(own, BEHIND, Outcome.PASSED)
    deployed = own.quick("deploy", "shop@1", "--json")
    assert deployed.code == 0 and deployed.json["warnings"] == []
    lines = [one["outcome"] for one in own.quick("audit", "--json").json if one["operation"] == "deploy"]
    assert lines == [*["started", "refused"] * 3, "started", "done"]


def test_a_sandbox_goes_on_and_says_what_it_skipped(own: Place) -> None:
    third = own.folder / "third"
    with own.app.store() as store:
        shutil.copytree(store.releases.body(BEHIND), third)
        for path in (third, *third.iterdir()):
            path.chmod(0o700)
        manifest = decode((third / MANIFEST).read_bytes(), Manifest)
        (third / MANIFEST).write_bytes(encode(replace(manifest, seed=manifest.seed + 1)))
        id = store.releases.seal("shop", third, [], headline="again", spec_digest="0" * 64).id
    assert own.call("serve", "shop@1", "--port", "0", "--detach").code == 0
    deployed = own.quick("deploy", str(id), "--json")
    (why,) = deployed.json["warnings"]
    assert deployed.code == 0 and f"modelyard drill {id}" in why and "sandbox" in why
    skipped = [one for one in own.quick("audit", "--json").json if one["operation"] == "deploy_unproven"]
    assert [one["outcome"] for one in skipped] == ["started", "done"] and "never" in skipped[0]["model_metadata"]["why"]


def test_a_guardian_ends_what_is_left_when_whoever_rehearsed_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    environment = {**os.environ, "MODELYARD_HOME": str(folder)}
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys, time\n"
         f"g = subprocess.Popen([sys.executable, '-m', 'modelyard.app.guardian', {str(folder)!r}], stdin=-1)\n"
         "print(g.pid, flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and int(holder.stdout.readline())
        until(lambda: marked(folder) == [orphan.pid])
        os.kill(holder.pid, signal.SIGKILL)
        assert orphan.wait(20) == -signal.SIGKILL
        until(lambda: not folder.exists(), timeout_s=10)
    finally:
        for process in (orphan, holder):
            process.kill()
            process.communicate()


@pytest.mark.soak
def test_every_drill_does_as_it_says(own: Place) -> None:
    done = own.call("drill", "shop@1", "--json", timeout_s=300)
    found = {one["kind"]: one for one in done.json["evidence"]["drills"]}
    assert list(found) == list(DEFAULT_DRILLS)
    # A supervisor that is started again ends the fronts of the dead one before it listens: callers may be refused.
    again = found.pop("controller_killed")
    assert again["recovery_s"] is not None and again["changes_lost"] == 0
    assert {kind: one["why"] for kind, one in found.items() if one["outcome"] != "passed"} == {}
    assert found["nan_outputs"]["degraded"] > 0 and found["out_of_memory"]["detection_s"] is not None
    assert done.code == (0 if again["outcome"] == "passed" else 3)
