"""Deploy, rollback and keys as a person calls them: through the command line, over the real store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from modelyard.app.serving import supervisor_job
from modelyard.bundle.format import MANIFEST, Manifest
from modelyard.core.codec import decode, encode
from modelyard.core.evidence import Evidence
from modelyard.core.machine import fingerprint
from modelyard.core.sweep import ServingSettings, SweepEvidence, SweepPoint
from modelyard.spec.load import load
from tests.app.resealed import sealed
from tests.journeys.making import Place, ours
from tests.journeys.own import until
from tests.journeys.shared import copy_of

ROW = {"age": 70, "city": "rome", "hours": 40.5}


@pytest.fixture(scope="module")
def own(shop: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store of this file's own with two releases whose bodies differ."""
    place = copy_of(shop, tmp_path_factory.mktemp("traffic"))
    with place.app.store() as store:
        first = store.releases.get("shop@1")
        folder = place.folder / "second"
        shutil.copytree(store.releases.body(first.id), folder)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o700)
        manifest = decode((folder / MANIFEST).read_bytes(), Manifest)
        (folder / MANIFEST).write_bytes(encode(replace(manifest, seed=manifest.seed + 1)))
        store.releases.seal("shop", folder, [], headline="the same again", spec_digest=first.spec_digest)
    return place


@pytest.fixture(autouse=True)
def no_process_stays(own: Place) -> Iterator[None]:
    yield
    own.quick("stop", "shop")
    until(lambda: not ours(own.home), timeout_s=10)


def serve(place: Place, ref: str = "shop@1") -> dict[str, Any]:
    done = place.call("serve", ref, "--port", "0", "--detach", "--json")
    assert done.code == 0, done.err
    run: dict[str, Any] = done.json["run"]
    return run


def served_by(port: int, key: str = "") -> str:
    body = json.dumps({"rows": [ROW]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        answer: dict[str, str] = json.loads(reply.read())
        return answer["served_by"]


def test_a_deploy_and_a_rollback_are_on_record_and_quick(own: Place) -> None:
    port = serve(own)["port"]
    deployed = own.quick("deploy", "shop@2")
    assert deployed.code == 0 and "shop answers from shop@2" in deployed.out
    assert "Go back to shop@1: modelyard rollback shop" in deployed.out
    assert served_by(port) == "shop@2"
    began = time.monotonic()
    back = own.call("rollback", "shop", "--json")  # a process of its own, as at night
    took_s = time.monotonic() - began
    assert back.code == 0 and (back.json["release"], back.json["store"]) == ("shop@1", "written")
    assert served_by(port) == "shop@1"
    assert back.json["seconds"] < 10.0 and took_s < 30.0
    again = own.quick("rollback", "shop")
    assert again.code == 2 and "modelyard deploy shop@NUMBER" in again.err
    own.quick("stop", "shop")  # a rollback does not wait for the log: its lines may come in with the next change's
    entries = own.quick("audit", "--last", "60", "--json").json
    done = [
        (one["operation"], one["outcome"], one["model_metadata"].get("release"))
        for one in entries
        if one["operation"] in ("deploy", "rollback") and one["outcome"] != "started"
    ]
    wanted = {("deploy", "done", None), ("rollback", "done", "shop@1"), ("rollback", "refused", None)}
    assert set(done) == wanted and len(done) == 3
    assert own.quick("audit", "verify").code == 0


def test_what_cannot_be_deployed_is_said(own: Place) -> None:
    idle = own.quick("deploy", "shop@2")
    assert idle.code == 2 and "No supervisor answers" in idle.err
    serve(own)
    unknown = own.quick("deploy", "shop@77")
    assert unknown.code == 2 and "shop@77" in unknown.err


def test_a_rollback_of_a_stopped_service_is_refused_with_what_to_serve(own: Place) -> None:
    serve(own)
    assert own.quick("deploy", "shop@2").code == 0
    assert own.quick("stop", "shop").code == 0
    refused = own.quick("rollback", "shop")
    assert refused.code == 2 and "modelyard serve shop@1" in refused.err and refused.out == ""
    told = own.quick("rollback", "shop", "--json")
    assert told.code == 2 and told.json["error"] == "service.not_running"
    unknown = own.quick("rollback", "nothing")
    assert unknown.code == 2 and "There is no service `nothing`" in unknown.err


def test_a_deploy_says_which_terms_of_its_spec_do_not_count_and_never_protects_a_release_less(
    own: Place, tmp_path: Path
) -> None:
    locked = sealed(own, tmp_path / "locked", keys=True)
    port = serve(own)["port"]
    refused = own.quick("deploy", locked)
    assert refused.code == 2 and "the service asks nobody for a key" in refused.err
    assert f"modelyard stop shop, then modelyard serve {locked}" in " ".join(refused.err.split())
    assert served_by(port) == "shop@1"
    assert own.quick("stop", "shop").code == 0
    serve(own, locked)
    deployed = own.quick("deploy", "shop@1", "--json")
    why, unproven = deployed.json["warnings"]
    assert deployed.code == 0 and "goes on asking for keys" in why and "modelyard drill shop@1" in unproven
    back = own.quick("deploy", locked)
    assert back.code == 0 and "goes on" not in back.err
    assert "WARNING: The service goes on asking for keys" in " ".join(own.quick("deploy", "shop@2").err.split())


def test_a_rollback_works_with_the_database_gone_and_is_reconciled(own: Place) -> None:
    port = serve(own)["port"]
    assert own.quick("deploy", "shop@2").code == 0
    away = own.home.with_name("database")
    away.mkdir()
    files = [path for path in own.home.iterdir() if path.name.startswith("store.db")]
    for path in files:
        path.rename(away / path.name)
    (own.home / "store.db").mkdir()  # what is there now cannot be opened
    try:
        done = own.quick("rollback", "shop", "--json")
        assert done.code == 0 and done.json["store"] != "written" and done.json["fronts"] == "follow"
        assert served_by(port) == "shop@1"
    finally:
        (own.home / "store.db").rmdir()
        for path in files:
            (away / path.name).rename(own.home / path.name)
        away.rmdir()
    assert own.quick("deploy", "shop@2").code == 0
    assert served_by(port) == "shop@2"


def test_a_rollback_works_with_the_supervisor_killed(own: Place) -> None:
    run = serve(own)
    assert own.quick("deploy", "shop@2").code == 0
    os.kill(run["pid"], signal.SIGKILL)
    until(lambda: not Path(f"/proc/{run['pid']}").exists())
    done = own.quick("rollback", "shop")
    assert done.code == 0 and "supervisor is dead" in done.out
    until(lambda: served_by(run["port"]) == "shop@1", timeout_s=2)


def test_keys_are_made_listed_and_removed(own: Place) -> None:
    added = own.quick("keys", "add", "shop", "--label", "team", "--rate", "5", "--json")
    key = added.json["key"]
    listed = own.quick("keys", "list", "shop")
    assert "team" in listed.out and "5/s" in listed.out and key not in listed.out
    assert own.quick("keys", "list", "shop", "--json").json == [
        {"label": "team", "manage": False, "rate": 5.0, "burst": 5, "created": listed_at(own)}
    ]
    again = own.quick("keys", "add", "shop", "--label", "team")
    assert again.code == 2 and "already" in again.err
    assert own.quick("keys", "add", "shop").code == 2
    assert own.quick("keys", "add", "nothing", "--label", "team").code == 2
    assert own.quick("keys", "list", "nothing").code == 2
    removed = own.quick("keys", "remove", "shop", "--label", "team")
    assert removed.code == 0 and own.quick("keys", "list", "shop").out == "shop has no keys.\n"
    assert own.quick("keys", "remove", "shop", "--label", "team").code == 2
    trail = own.quick("audit", "--last", "30", "--json").out
    assert "keys add" in trail and "keys remove" in trail and key not in trail


def test_how_much_a_key_may_ask_at_once_is_listed_and_means_nothing_without_a_rate(own: Place) -> None:
    for words in (("quick", "--rate", "0.5", "--burst", "40"), ("slow", "--rate", "0.2"), ("free",)):
        assert own.quick("keys", "add", "shop", "--label", *words).code == 0
    listed = own.quick("keys", "list", "shop", "--json").json
    assert {one["label"]: one["burst"] for one in listed} == {"quick": 40, "slow": 1, "free": None}
    head, quick, slow, free = (line.split() for line in own.quick("keys", "list", "shop").out.splitlines())
    assert head == ["label", "may", "manage", "rate", "at", "once", "made"]
    assert (quick[:3], slow[:3], free[0]) == (["quick", "0.5/s", "40"], ["slow", "0.2/s", "1"], "free")
    assert len(free) == 2  # neither bound
    refused = own.quick("keys", "add", "shop", "--label", "odd", "--burst", "9")
    assert refused.code == 2 and "`--burst 9` bounds nothing without a rate" in refused.err
    for label in ("quick", "slow", "free"):
        assert own.quick("keys", "remove", "shop", "--label", label).code == 0


def listed_at(place: Place) -> str:
    created: str = place.quick("keys", "list", "shop", "--json").json[0]["created"]
    return created


def test_a_service_open_to_all_says_so_to_whoever_starts_it(own: Place) -> None:
    done = own.call("serve", "shop@1", "--port", "0", "--host", "0.0.0.0", "--detach")
    assert done.code == 0 and "WARNING: Anyone who reaches 0.0.0.0 can ask `shop`" in done.err


def test_a_service_runs_as_its_spec_says_and_else_as_was_measured(own: Place) -> None:
    machine = fingerprint()
    point = SweepPoint(
        workers=1, threads=1, batch_rows=64, rounds=5, calls=100, p50_ms=1.0, p99_ms=1.2, rows_per_s=60_000.0,
        rows_per_s_low=59_000.0, rows_per_s_high=61_000.0, cpu_us=10.0, memory_mb=80.0,
    )  # fmt: skip
    swept = SweepEvidence(
        machine=machine, deadline_ms=1000.0, limit_s=10.0, spent_s=1.0, load_s=0.1, points=(point,),
        chosen=ServingSettings(batch_rows=64),
    )  # fmt: skip
    record = Evidence(release="shop@1", body="0" * 64, recorded="now", payload=swept)
    spec = load(own.spec).spec
    measured = supervisor_job("shop", own.folder, spec, [record], host="127.0.0.1", port=0)
    assert (measured.limits.batch_rows, measured.workers, measured.needs_key) == (64, 1, False)
    assert measured.memory_mb is not None and measured.memory_mb > 80
    told = spec.model_copy(
        update={
            "serving": spec.serving.model_copy(
                update={"max_batch_rows": 8, "workers": 2, "memory_mb": 999, "keys": True}
            )
        }
    )
    decided = supervisor_job("shop", own.folder, told, [record], host="127.0.0.1", port=0)
    assert (decided.limits.batch_rows, decided.workers, decided.memory_mb, decided.needs_key) == (8, 2, 999, True)
    assert supervisor_job("shop", own.folder, spec, [], host="127.0.0.1", port=0).limits.batch_rows == 256
