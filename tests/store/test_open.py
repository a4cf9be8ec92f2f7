"""The store as its callers see it: ports, one folder, nothing readable by others."""

from __future__ import annotations

from pathlib import Path

from modelyard.core.clock import SystemClock
from modelyard.core.ports import Audit, Releases, Runs, Services, Stages
from modelyard.store.open import Store, open_audit
from tests.store.making import make_body, make_evidence, make_service, writing


def test_the_store_fills_the_ports(store: Store) -> None:
    stages: Stages = store.stages
    releases: Releases = store.releases
    services: Services = store.services
    audit: Audit = store.audit
    runs: Runs = store.runs
    assert (stages.find("none"), releases.all(), services.all(), audit.verify(), runs.all()) == (None, [], [], [], [])


def test_everything_is_private(store: Store, home: Path, tmp_path: Path) -> None:
    digest = make_body(tmp_path / "body")
    with store.audit.change("test", resources=[], rollback_available=False):
        store.stages.keep("abc", writing(b"x"))
        store.releases.seal("income", tmp_path / "body", [make_evidence(digest)], headline="", spec_digest="")
        store.services.put(make_service("income", 1, {"income@1": 1.0}), expect_epoch=None)
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in home.iterdir()} == {0}


def test_a_home_that_others_could_read_is_closed(home: Path) -> None:
    from tests.store.making import open_here

    home.mkdir(mode=0o755)
    open_here(home).close()
    assert home.stat().st_mode & 0o777 == 0o700


def test_the_audit_log_opens_without_the_database(home: Path) -> None:
    home.mkdir()
    (home / "store.db").write_bytes(b"broken")
    log = open_audit(
        home, user="ada", environment="production", change_ticket=None, command="rollback", clock=SystemClock()
    )
    with log.change("rollback", resources=["income@1"], rollback_available=True, must_not_wait=True):
        pass
    assert [entry["outcome"] for entry in log.entries()] == ["started", "done"]


def test_closing_twice_is_harmless_and_the_store_can_be_used_again(store: Store) -> None:
    store.close()
    store.close()
    assert store.runs.all() == []
