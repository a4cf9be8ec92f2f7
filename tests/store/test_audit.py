"""The audit log in good times: two lines a change, chained, rotated, pruned, masked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelyard.core.codec import digest, encode
from modelyard.errors import RequirementNotMet, UsageError
from tests.store.making import SetClock, in_many, open_log

DESIGNED = {
    "timestamp",
    "user",
    "change_ticket",
    "environment",
    "operation",
    "command",
    "outcome",
    "resources_affected",
    "rollback_available",
    "duration_seconds",
    "model_metadata",
    "error_detail",
}


def test_a_change_has_one_line_before_and_one_after(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    with log.change("deploy", resources=["income@2"], rollback_available=True, model={"rows": 7}) as detail:
        (started,) = log.entries()
        detail["epoch"] = 3
    before, after = log.entries()
    assert before == started
    assert before.keys() == after.keys() == DESIGNED | {"sequence", "previous", "hash", "change", "late"}
    assert (before["outcome"], after["outcome"]) == ("started", "done")
    assert (before["duration_seconds"], after["duration_seconds"]) == (None, 0.5)
    assert (before["model_metadata"], after["model_metadata"]) == ({"rows": 7}, {"rows": 7, "epoch": 3})
    assert before["change"] == after["change"]
    assert after["resources_affected"] == ["income@2"]
    assert (after["user"], after["change_ticket"], after["environment"]) == ("ada", "T-1", "sandbox")
    assert log.verify() == []


def test_the_chain_can_be_recomputed_by_anyone(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    for _ in range(3):
        with log.change("deploy", resources=[], rollback_available=False):
            pass
    previous = "0" * 64
    lines = (tmp_path / "audit" / "audit.jsonl").read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        fields = json.loads(line)
        own = fields.pop("hash")
        assert (fields["sequence"], fields["previous"]) == (number, previous)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert own == digest(canonical)
        previous = own
    assert json.loads((tmp_path / "audit" / "head.json").read_text()) == {"count": 6, "hash": previous}


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (ValueError("broken"), "failed"),
        (KeyboardInterrupt(), "failed"),
        (UsageError("wrong"), "refused"),
        (RequirementNotMet("not met", ["auc"]), "refused"),
    ],
)
def test_what_ends_badly_is_on_record_and_still_raised(tmp_path: Path, fault: BaseException, outcome: str) -> None:
    log = open_log(tmp_path / "audit")
    with pytest.raises(type(fault)), log.change("deploy", resources=[], rollback_available=True):
        raise fault
    after = [*log.entries()][-1]
    assert after["outcome"] == outcome
    assert after["error_detail"].startswith(type(fault).__name__)


def test_no_secret_reaches_the_log(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit", command="modelyard push --key=hunter2", user="ada:token=hunter2")
    model = {"password": "hunter2", "url": "postgresql://ada:hunter2@db/x"}
    with (
        pytest.raises(ValueError),
        log.change("push", resources=["https://ada:hunter2@x/y"], rollback_available=False, model=model) as detail,
    ):
        detail["note"] = "token=hunter2"
        raise ValueError("cannot log in with password=hunter2")
    assert b"hunter2" not in b"".join(path.read_bytes() for path in (tmp_path / "audit").iterdir())


def test_only_the_newest_can_be_asked_for(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit", rotate_bytes=3000)
    for number in range(20):
        with log.change(f"step-{number}", resources=[], rollback_available=False):
            pass
    everything = [*log.entries()]
    assert [entry["sequence"] for entry in everything] == list(range(1, len(everything) + 1))
    for last in (1, 7, 30, 1000):
        assert [*log.entries(last=last)] == everything[-last:]


def test_files_are_private(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    with log.change("deploy", resources=[], rollback_available=False):
        pass
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "audit").iterdir()} == {0}


def test_a_large_log_is_rotated_and_each_file_begins_with_the_head_before(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit", rotate_bytes=3000)
    for _ in range(20):
        with log.change("deploy", resources=[], rollback_available=False):
            pass
    rotated = sorted((tmp_path / "audit").glob("audit-*.jsonl"))
    assert len(rotated) > 3
    for before, after in zip(rotated, [*rotated[1:], tmp_path / "audit" / "audit.jsonl"], strict=True):
        last, first = json.loads(before.read_bytes().splitlines()[-1]), json.loads(after.read_bytes().splitlines()[0])
        assert first["previous"] == first["model_metadata"]["last_hash"] == last["hash"]
        assert first["operation"] == "audit.rotate"
    assert log.verify() == []
    rotated[1].unlink()
    assert any("removed" in fault for fault in log.verify())


def test_files_are_pruned_after_ninety_days_and_the_log_says_so(tmp_path: Path) -> None:
    clock = SetClock()
    log = open_log(tmp_path / "audit", clock, rotate_bytes=3000)

    def work() -> None:
        for _ in range(10):
            with log.change("deploy", resources=[], rollback_available=False):
                pass

    work()
    clock.move(days=89)
    work()
    oldest = next(log.entries())
    assert oldest["sequence"] == 1
    clock.move(days=2)
    work()
    assert next(log.entries())["sequence"] > 1
    first_file = sorted((tmp_path / "audit").glob("audit-*.jsonl"))[0]
    assert json.loads(first_file.read_bytes().splitlines()[-1])["timestamp"] > "2026-03"
    assert [entry for entry in log.entries() if entry["operation"] == "audit.prune"]
    assert log.verify() == []
    sorted((tmp_path / "audit").glob("audit-*.jsonl"))[0].unlink()
    assert any("no entry says that they were pruned" in fault for fault in log.verify())


def test_less_than_ninety_days_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="90 at least"):
        open_log(tmp_path / "audit", keep_days=89)


def test_eight_processes_write_one_whole_chain(tmp_path: Path) -> None:
    def work(number: int) -> None:
        log = open_log(tmp_path / "audit", rotate_bytes=100_000)
        for turn in range(50):
            with log.change(f"op-{number}-{turn}", resources=[], rollback_available=False):
                pass

    in_many(8, work)
    log = open_log(tmp_path / "audit")
    assert log.verify() == []
    operations = [entry["operation"] for entry in log.entries() if entry["operation"].startswith("op-")]
    assert sorted(operations) == sorted(
        f"op-{number}-{turn}" for number in range(8) for turn in range(50) for _ in "ab"
    )


def test_a_line_is_the_canonical_form_of_its_fields(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    with log.change("déployer", resources=["é"], rollback_available=False, model={"x": float("nan"), "y": {1}}):
        pass
    for line in (tmp_path / "audit" / "audit.jsonl").read_bytes().splitlines():
        assert encode(json.loads(line)) == line
    assert log.verify() == []
