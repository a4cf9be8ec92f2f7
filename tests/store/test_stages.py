"""Stages: whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelyard.errors import QuotaExceeded, StoreError, UsageError
from modelyard.store.open import Store
from tests.store.making import die_at, ended, fork, in_many, open_here, writing


def fill(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "train.parquet").write_bytes(b"train" * 100)
    (folder / "summary.json").write_bytes(b"{}")


def refuse(folder: Path) -> None:
    raise AssertionError(f"{folder} was built although it is there")


def test_an_unknown_key_is_not_found(store: Store) -> None:
    assert store.stages.find("abc") is None


def test_a_kept_stage_is_found_again_by_another_opening(store: Store, home: Path) -> None:
    folder = store.stages.keep("abc", fill)
    assert open_here(home).stages.find("abc") == folder
    assert (folder / "parts" / "train.parquet").read_bytes() == b"train" * 100


def test_a_kept_stage_is_not_built_again(store: Store) -> None:
    assert store.stages.keep("abc", fill) == store.stages.keep("abc", refuse)


@pytest.mark.parametrize("harm", ["alter", "grow", "remove", "add", "no manifest", "broken manifest"])
def test_a_stage_that_differs_is_absent_removed_and_noted(store: Store, harm: str) -> None:
    folder = store.stages.keep("abc", fill)
    target = folder / "parts" / "train.parquet"
    match harm:
        case "alter":
            target.write_bytes(b"TRAIN" * 100)
        case "grow":
            target.write_bytes(b"train" * 101)
        case "remove":
            target.unlink()
        case "add":
            (folder / "more").write_bytes(b"")
        case "no manifest":
            (folder / ".stage.json").unlink()
        case "broken manifest":
            (folder / ".stage.json").write_bytes(b"{")
    assert store.stages.find("abc") is None
    assert not folder.exists()
    assert [entry["outcome"] for entry in store.audit.entries()] == ["started", "done"]
    assert str(folder) in [*store.audit.entries()][-1]["model_metadata"]["reason"]
    assert store.stages.keep("abc", fill) == folder


def test_a_build_that_fails_leaves_nothing(store: Store, home: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.stages.keep("abc", fail)
    assert store.stages.find("abc") is None
    assert [*(home / "stages").iterdir()] == []


def test_a_link_cannot_be_kept(store: Store) -> None:
    with pytest.raises(StoreError, match="neither a file nor a folder"):
        store.stages.keep("abc", lambda folder: (folder / "link").symlink_to("/etc/hostname"))


def test_a_name_of_the_store_cannot_be_used_by_a_stage(store: Store) -> None:
    with pytest.raises(StoreError, match="kept for the store"):
        store.stages.keep("abc", lambda folder: (folder / ".stage.json").touch())


@pytest.mark.parametrize("key", ["", "../up", ".hidden", "a/b", "a" * 129])
def test_a_key_that_is_no_plain_name_is_refused(store: Store, key: str) -> None:
    with pytest.raises(UsageError, match="cannot be a stage's key"):
        store.stages.find(key)


def test_a_stage_beyond_the_quota_is_refused_and_leaves_nothing(home: Path) -> None:
    store = open_here(home, quota_bytes=1_000_000)
    with pytest.raises(QuotaExceeded, match="modelyard gc"):
        store.stages.keep("abc", writing(b"x" * 1_000_000))
    assert [*(home / "stages").iterdir()] == []
    assert store.stages.keep("def", fill).exists()


def test_eight_processes_that_build_one_key_all_get_a_whole_folder(home: Path) -> None:
    open_here(home).close()

    def work(number: int) -> None:
        own = open_here(home)
        folder = own.stages.keep("abc", writing(str(number).encode()))
        assert folder == home / "stages" / "abc"
        assert own.stages.find("abc") == folder

    in_many(8, work)
    assert sorted(path.name for path in (home / "stages").iterdir()) == ["abc"]


def test_killed_before_any_write_of_keep_the_stage_is_absent_or_whole(home: Path) -> None:
    open_here(home).close()
    step, code = 0, -9
    while code == -9:
        step += 1

        def work(step: int = step) -> None:
            own = open_here(home)
            die_at(step)
            own.stages.keep(f"key{step}", fill)

        code = ended(fork(work))
        after = open_here(home)
        found = after.stages.find(f"key{step}")
        assert found is None or (found / "parts" / "train.parquet").read_bytes() == b"train" * 100
        assert [*after.audit.entries()] == []  # never half, so nothing had to be discarded
        assert after.stages.keep(f"key{step}", fill).exists()
        after.close()
    assert code == 0
    assert step > 8


def test_finding_a_stage_records_its_use(store: Store, home: Path) -> None:
    store.stages.keep("old", fill)
    store.stages.keep("new", fill)
    os.utime(home / "stages" / "new" / ".stage.json", (1, 1))
    assert [key for _, key in store.stages.last_used()] == ["new", "old"]
    store.stages.find("new")
    assert store.stages.last_used()[0][0] > 1
