"""Collection: what is live, its way back and the newest stay; the rest goes."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from modelyard.core.ids import ReleaseId
from modelyard.core.release import HeaderRule
from modelyard.errors import BodyCollected, QuotaExceeded, UsageError
from modelyard.store.folder import TEMPORARY
from modelyard.store.open import Store
from tests.store.conftest import Opener
from tests.store.making import (
    SetClock,
    die_at,
    ended,
    fork,
    in_many,
    make_body,
    make_evidence,
    make_service,
    open_here,
    writing,
)


def seal(store: Store, folder: Path, name: str, number: int) -> None:
    digest = make_body(folder, of=f"{name}{number}")
    store.releases.seal(name, folder, [make_evidence(digest)], headline="", spec_digest="s" * 64)


@pytest.fixture
def nine(opener: Opener, tmp_path: Path) -> Store:
    """A store with income@1 to income@9."""
    store = opener()
    for number in range(1, 10):
        seal(store, tmp_path / f"b{number}", "income", number)
    return store


def kept(store: Store) -> set[int]:
    return {release.id.number for release in store.releases.all("income") if release.collected is None}


def test_only_the_newest_stay_where_nothing_is_served(nine: Store, clock: SetClock, home: Path) -> None:
    report = nine.gc.collect(keep_newest=2, now=clock.now())
    assert kept(nine) == {8, 9}
    assert report.releases == tuple(f"income@{number}" for number in range(1, 8))
    assert len(report.bodies) == 7
    assert report.freed_bytes > 0
    assert len([path for path in (home / "bodies").iterdir() if path.is_dir()]) == 2
    assert nine.releases.body(ReleaseId(name="income", number=9)).exists()


def test_what_is_served_and_its_way_back_stay(nine: Store, clock: SetClock) -> None:
    nine.services.put(make_service("income", 1, {"income@3": 1.0}), expect_epoch=None)
    nine.services.put(make_service("income", 2, {"income@6": 0.9, "income@8": 0.1}), expect_epoch=1)
    report = nine.gc.collect(keep_newest=0, now=clock.now())
    assert kept(nine) == {3, 5, 6, 7, 8}
    assert report.kept["income@6"] == "service `income` answers from it when it runs"
    assert report.kept["income@5"] == "the way back of `income@6`"
    assert report.kept["income@3"] == "service `income` answered from it before"


def test_what_is_only_copied_to_or_ruled_to_and_where_a_rollback_goes_stays(nine: Store, clock: SetClock) -> None:
    shadowed = make_service("income", 1, {"income@9": 1.0})
    rules = (HeaderRule(header="x-beta", value="yes", release="income@6"),)
    traffic = replace(shadowed.traffic, shadow={"income@4": 0.5}, rules=rules, previous="income@1")
    nine.services.put(replace(shadowed, traffic=traffic), expect_epoch=None)
    report = nine.gc.collect(keep_newest=0, now=clock.now())
    assert {1, 4, 6, 9} <= kept(nine)
    assert report.kept["income@1"] == "service `income` answered from it before"


def test_what_the_fallbacks_of_a_served_release_name_stays(nine: Store, tmp_path: Path, clock: SetClock) -> None:
    fallback = [{"kind": "variant", "release": "income@2"}, {"kind": "refuse"}]
    digest = make_body(tmp_path / "ten", of="income10", fallback=fallback)
    nine.releases.seal("income", tmp_path / "ten", [make_evidence(digest)], headline="", spec_digest="s" * 64)
    nine.services.put(make_service("income", 1, {"income@10": 1.0}), expect_epoch=None)
    report = nine.gc.collect(keep_newest=0, now=clock.now())
    assert kept(nine) == {2, 9, 10}
    assert report.kept["income@2"] == "a fallback of `income@10`"


def test_a_change_of_state_alone_does_not_forget_the_way_back(nine: Store, clock: SetClock) -> None:
    nine.services.put(make_service("income", 1, {"income@2": 1.0}), expect_epoch=None)
    nine.services.put(make_service("income", 2, {"income@9": 1.0}), expect_epoch=1)
    nine.services.put(make_service("income", 3, {"income@9": 1.0}, "stopped"), expect_epoch=2)
    nine.gc.collect(keep_newest=0, now=clock.now())
    assert kept(nine) == {2, 8, 9}


def test_the_way_back_is_the_previous_release_that_still_has_a_body(nine: Store, clock: SetClock) -> None:
    nine.services.put(make_service("income", 1, {"income@5": 1.0}), expect_epoch=None)
    nine.gc.collect(keep_newest=1, now=clock.now())
    nine.services.put(make_service("income", 2, {"income@9": 1.0}), expect_epoch=1)
    nine.gc.collect(keep_newest=0, now=clock.now())
    assert kept(nine) == {5, 9}


def test_a_collected_release_keeps_row_and_evidence_and_says_what_to_do(nine: Store, clock: SetClock) -> None:
    nine.gc.collect(keep_newest=1, now=clock.now())
    first = ReleaseId(name="income", number=1)
    assert nine.releases.get(first).collected == "2026-01-02T03:04:05.000000Z"
    assert len(nine.releases.evidence(first)) == 1
    with pytest.raises(BodyCollected, match="Run its spec again"):
        nine.releases.body(first)
    with pytest.raises(BodyCollected, match="income@1"):
        nine.services.put(make_service("income", 1, {"income@1": 1.0}), expect_epoch=None)


def test_a_collected_body_sealed_again_is_back_under_its_number(nine: Store, clock: SetClock, tmp_path: Path) -> None:
    nine.gc.collect(keep_newest=1, now=clock.now())
    seal(nine, tmp_path / "b1", "income", 1)
    assert kept(nine) == {1, 9}
    assert nine.releases.body(ReleaseId(name="income", number=1)).exists()


def test_a_dry_run_lists_what_would_go_and_touches_nothing(nine: Store, clock: SetClock) -> None:
    nine.stages.keep("old", writing(b"x"))
    nine.stages.close()
    clock.move(days=8)
    planned = nine.gc.collect(keep_newest=1, now=clock.now(), dry_run=True)
    assert kept(nine) == set(range(1, 10))
    assert nine.gc.collect(keep_newest=1, now=clock.now(), dry_run=True) == planned
    done = nine.gc.collect(keep_newest=1, now=clock.now())
    assert (done.releases, done.bodies, done.stages) == (planned.releases, planned.bodies, planned.stages)
    assert planned.freed_bytes == done.freed_bytes > 0


def test_a_body_of_two_names_goes_only_with_the_last(store: Store, clock: SetClock, tmp_path: Path) -> None:
    make_body(tmp_path / "body")
    for name in ("a", "b"):
        store.releases.seal(name, tmp_path / "body", [], headline="", spec_digest="")
    seal(store, tmp_path / "more", "a", 1)
    report = store.gc.collect(keep_newest=1, now=clock.now())
    assert (report.releases, report.bodies) == (("a@1",), ())
    assert store.releases.body(ReleaseId(name="b", number=1)).exists()


def test_stages_long_unused_go_and_those_in_use_stay(home: Path, clock: SetClock) -> None:
    store, user = open_here(home, clock), open_here(home, clock)
    for key in ("unused", "used"):
        store.stages.keep(key, writing(b"x"))
    store.close()
    clock.move(days=6)
    store.stages.keep("new", writing(b"x"))
    store.close()
    clock.move(days=2)
    os.utime(user.stages.find("used") / ".stage.json", (0, 0))  # type: ignore[operator]
    assert store.gc.collect(keep_newest=1, now=clock.now()).stages == ("unused",)
    user.close()
    assert store.gc.collect(keep_newest=1, now=clock.now()).stages == ("used",)
    assert store.stages.find("new") is not None


def test_over_the_quota_the_longest_unused_stages_go_first(home: Path, clock: SetClock) -> None:
    store = open_here(home, clock, quota_bytes=2_000_000)
    for key in ("c", "a", "b"):
        store.stages.keep(key, writing(b"x" * 500_000))
        clock.move(minutes=1)
    store.stages.find("c")
    store.close()
    with pytest.raises(QuotaExceeded, match="modelyard gc"):
        store.gc.ensure_room(900_000)
    assert store.gc.collect(keep_newest=1, now=clock.now()).stages == ("a",)
    store.gc.ensure_room(300_000)


def test_more_than_the_disk_has_is_refused_without_a_quota(store: Store) -> None:
    with pytest.raises(QuotaExceeded, match="The disk"):
        store.gc.ensure_room(10**18)


def test_leftovers_of_the_dead_go_after_an_hour_and_those_of_the_living_stay(store: Store, home: Path) -> None:
    clock = SetClock()
    for place in ("stages", "bodies"):
        (home / place / f"{TEMPORARY}dead").mkdir()
        (home / place / f"{TEMPORARY}dead" / "x").write_bytes(b"x" * 1000)
        (home / place / f"{TEMPORARY}dead").chmod(stat.S_IRUSR | stat.S_IXUSR)
    (home / "audit" / ".head.json.abc.tmp").write_bytes(b"x")
    build_saw: list[tuple[str, ...]] = []

    def build(folder: Path) -> None:
        os.utime(folder, (0, 0))
        clock.moment = clock.moment.replace(year=2200)
        build_saw.append(store.gc.collect(keep_newest=1, now=clock.now()).leftovers)
        (folder / "x").write_bytes(b"x")

    assert store.gc.collect(keep_newest=1, now=clock.now()).leftovers == ()  # their age is of the disk's clock: new
    assert store.stages.keep("abc", build).exists()
    assert build_saw == [("audit/.head.json.abc.tmp", "bodies/.tmp-dead", "stages/.tmp-dead")]
    assert not (home / "bodies" / f"{TEMPORARY}dead").exists()


def test_a_body_without_a_row_goes(store: Store, home: Path, tmp_path: Path, clock: SetClock) -> None:
    def work() -> None:
        own = open_here(home)
        own.releases._insert = lambda *_: os._exit(9)  # type: ignore[method-assign]
        seal(own, tmp_path / "body", "income", 1)

    assert ended(fork(work)) == 9
    assert len(store.gc.collect(keep_newest=5, now=clock.now()).bodies) == 1
    assert [path for path in (home / "bodies").iterdir() if path.is_dir()] == []


def test_sealing_and_collecting_at_once_never_leave_a_release_without_its_body(home: Path, tmp_path: Path) -> None:
    open_here(home).close()
    make_body(tmp_path / "same")

    def seals() -> None:
        own = open_here(home)
        for turn in range(30):
            own.releases.seal("income", tmp_path / "same", [], headline="", spec_digest="")
            own.releases.seal(f"other{turn}", tmp_path / "same", [], headline="", spec_digest="")

    def collects() -> None:
        own = open_here(home)
        for _ in range(60):
            own.gc.collect(keep_newest=0, now=SetClock().now())

    pids = [fork(seals), fork(collects), fork(collects)]
    assert [ended(pid) for pid in pids] == [0, 0, 0]
    store = open_here(home)
    for release in store.releases.all():
        assert release.collected or store.releases.body(release.id).exists()


def test_a_collection_killed_before_any_of_its_writes_leaves_every_body_it_should(home: Path, tmp_path: Path) -> None:
    step, code = 0, -9
    while code == -9:
        step += 1
        for number in range(4):
            seal(open_here(home), tmp_path / f"{step}-{number}", f"name{step}", number)

        def work(step: int = step) -> None:
            own = open_here(home)
            die_at(step)
            own.gc.collect(keep_newest=2, now=SetClock().now())

        code = ended(fork(work))
        store = open_here(home)
        made = store.releases.all(f"name{step}")
        assert [release.collected for release in made][2:] == [None, None]
        assert all(store.releases.body(release.id) for release in made if release.collected is None)
        store.gc.collect(keep_newest=2, now=SetClock().now())
        assert len(list((home / "bodies").glob("[0-9a-f]*"))) == 2 * step
    assert code == 0
    assert step > 3


def test_a_stage_that_is_being_read_is_never_collected(home: Path) -> None:
    open_here(home).close()

    def reads(number: int) -> None:
        own = open_here(home)
        for turn in range(60):
            folder = own.stages.keep(f"key{turn % 3}", writing(b"x" * 10_000))
            assert (folder / "x").read_bytes() == b"x" * 10_000
            own.stages.close()

    def collects(number: int) -> None:
        own, later = open_here(home), SetClock().now() + timedelta(days=1)
        for _ in range(60):
            own.gc.collect(keep_newest=1, now=later, unused_for=timedelta(0))

    in_many(4, lambda number: (reads if number else collects)(number))


def test_a_negative_number_to_keep_is_refused(store: Store, clock: SetClock) -> None:
    with pytest.raises(UsageError, match="0 or more"):
        store.gc.collect(keep_newest=-1, now=clock.now())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sets(st.integers(1, 5), min_size=1, max_size=2), max_size=3), st.integers(0, 3))
def test_nothing_that_is_live_or_a_way_back_ever_goes(
    tmp_path_factory: pytest.TempPathFactory, traffics: list[set[int]], keep_newest: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = open_here(folder / "home")
    for number in range(1, 6):
        seal(store, folder / str(number), "income", number)
    for epoch, numbers in enumerate(traffics, start=1):
        shares = {f"income@{number}": 1 / len(numbers) for number in numbers}
        store.services.put(make_service("income", epoch, shares), expect_epoch=epoch - 1 or None)
    store.gc.collect(keep_newest=keep_newest, now=SetClock().now())
    live = traffics[-1] if traffics else set()
    must_stay = live | {number - 1 for number in live if number > 1} | set(range(6 - keep_newest, 6))
    assert must_stay <= kept(store)
    for number in kept(store):
        store.releases.body(ReleaseId(name="income", number=number))
    store.close()
