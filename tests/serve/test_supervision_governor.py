"""Whatever order stores, supervisors and people come and go in, the newest decision governs and none is lost."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelyard.core.clock import SystemClock
from modelyard.core.codec import decode, encode_pretty, write_atomic
from modelyard.core.release import Service, Traffic
from modelyard.errors import StoreConflict, UnknownName, UsageError
from modelyard.serve.keep import control
from modelyard.serve.keep.change import Changes
from modelyard.serve.keep.following import next_traffic
from modelyard.serve.keep.governor import Governor
from modelyard.serve.messages import TRAFFIC_FILE, SupervisorJob
from tests.serve.bodies import CONSTANT, REFUSE, write_body
from tests.serve.entry import ROW_FILE, FileAudit, FileReleases, FileServices
from tests.serve.running import write_bodies, write_row

RELEASES = ("income@1", "income@2", "income@3")


BODIES: dict[str, tuple[Path, str]] = {}


@pytest.fixture(autouse=True, scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bodies")
    ways = ([CONSTANT], [{"kind": "previous"}, REFUSE], [{"kind": "variant", "release": "income@1"}, REFUSE])
    for name, way in zip(RELEASES, ways, strict=True):
        BODIES[name] = (folder / name, write_body(folder / name, fallback=way))


class Governing(RuleBasedStateMachine):
    """A store that comes and goes, a supervisor that dies, and people who deploy and go back."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="governor-"))
        self.folder = self.root / "income"
        self.folder.mkdir()
        write_bodies(self.folder, BODIES)
        write_row(self.folder, {"income@1": 1.0}, epoch=1)
        self.away: bytes | None = None  # the row, while the store is gone
        self.governor: Governor | None = None
        self.wanted = "income@1"  # the last decision that was taken
        self.epoch = 0
        self.start()

    def teardown(self) -> None:
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def write_copy(self) -> None:
        if self.governor is not None and self.governor.changed:
            write_atomic(self.folder / TRAFFIC_FILE, encode_pretty(self.governor.routes))
            self.governor.changed = False

    @precondition(lambda self: self.governor is None)
    @rule()
    def start(self) -> None:
        job = SupervisorJob(service="income", run_folder=str(self.folder))
        self.governor = Governor(job, FileServices(self.folder), FileReleases(self.folder), SystemClock())
        self.governor.begin()
        self.write_copy()

    @rule()
    def supervisor_dies(self) -> None:
        self.governor = None

    @precondition(lambda self: self.away is None)
    @rule()
    def store_goes(self) -> None:
        self.away = (self.folder / ROW_FILE).read_bytes()
        (self.folder / ROW_FILE).unlink()

    @precondition(lambda self: self.away is not None)
    @rule()
    def store_comes_back(self) -> None:
        assert self.away is not None
        (self.folder / ROW_FILE).write_bytes(self.away)
        self.away = None

    @precondition(lambda self: self.governor is not None)
    @rule()
    def supervisor_looks(self) -> None:
        assert self.governor is not None
        self.governor.take(self.governor.ask())
        self.write_copy()

    @precondition(lambda self: self.away is None and self.governor is not None)
    @rule(release=st.sampled_from(RELEASES))
    def deploy(self, release: str) -> None:
        assert self.governor is not None
        self.governor.warm(release)
        self.write_copy()
        services = FileServices(self.folder)
        row = services.get("income")
        assert row is not None
        traffic = next_traffic(row.traffic, control.local_traffic(self.folder), release)
        services.put(_with(row, traffic), expect_epoch=row.traffic.epoch)
        self.wanted = release
        self.supervisor_looks()

    @rule()
    def roll_back(self) -> None:
        verbs = Changes(
            folder=self.root,
            store=lambda: (FileServices(self.folder), FileReleases(self.folder)),
            audit=FileAudit(self.folder),
            clock=SystemClock(),
        )
        try:
            with patch.object(control, "is_there", return_value=True):  # its fronts live on, whoever else died
                done = verbs.rollback("income")
        except (UsageError, UnknownName, StoreConflict):  # nothing answered before
            return
        self.wanted = done.release
        if self.governor is not None:  # it has no socket here: what it would be told
            self.governor.follow_copy()
            self.supervisor_looks()

    @invariant()
    def epochs_only_grow_and_what_answers_is_loaded(self) -> None:
        if not hasattr(self, "wanted"):
            return
        local = control.local_traffic(self.folder)
        assert local is not None and local.epoch >= self.epoch
        self.epoch = local.epoch
        if self.governor is None:
            return
        routes = self.governor.routes
        assert set(routes.traffic.shares) == {self.wanted}
        assert {*routes.traffic.shares, *routes.previous.values()} <= set(routes.bodies)
        if self.wanted == "income@3":
            assert "income@1" in routes.bodies

    @precondition(lambda self: self.governor is not None and self.away is None)
    @rule()
    def after_a_look_both_agree(self) -> None:
        assert self.governor is not None
        self.supervisor_looks()
        row = decode((self.folder / ROW_FILE).read_bytes(), Service)
        assert row.traffic == self.governor.routes.traffic == control.local_traffic(self.folder)


def _with(row: Service, traffic: Traffic) -> Service:
    return Service(
        name=row.name,
        traffic=traffic,
        host=row.host,
        port=row.port,
        environment=row.environment,
        state=row.state,
        supervisor_pid=None,
        started=None,
    )


Governing.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_the_newest_decision_governs = Governing.TestCase
