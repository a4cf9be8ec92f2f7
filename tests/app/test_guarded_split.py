"""A split brings no release into production whose way back was not rehearsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from modelyard.app.way_back import GuardedChanges
from modelyard.bundle.format import SPEC_IN_EFFECT
from modelyard.core.clock import SystemClock
from modelyard.core.codec import encode
from modelyard.errors import NotRunning, WayBackUnproven
from tests.serve.entry import EVENTS, ROW_FILE, FileAudit, FileReleases, FileServices
from tests.serve.running import write_bodies, write_row

SPLIT = {"income@1": 0.9, "income@2": 0.1}


class Unrehearsed(FileReleases):
    def evidence(self, *_: Any, **__: Any) -> list[Any]:
        return []


def guarded(folder: Path, environment: str) -> GuardedChanges:
    """A service of `income@1` that does not run, so that whatever is let through ends there."""
    write_bodies(folder, dict.fromkeys(SPLIT, (folder, "")))
    (folder / SPEC_IN_EFFECT).write_text("{}")
    write_row(folder, {"income@1": 1.0}, epoch=1)
    row = FileServices(folder).get("income")
    assert row is not None
    (folder / ROW_FILE).write_bytes(encode(replace(row, environment=environment)))
    return GuardedChanges(
        folder=folder.parent,
        store=lambda: (FileServices(folder), Unrehearsed(folder)),
        audit=FileAudit(folder),
        clock=SystemClock(),
    )


def test_a_release_that_was_not_rehearsed_gets_no_share_in_production(tmp_path: Path) -> None:
    changes = guarded(tmp_path, "production")
    with pytest.raises(WayBackUnproven, match=r"`income@2` is not deployed in production: .* modelyard drill income@2"):
        changes.set_traffic("income", SPLIT, expect_epoch=1)
    assert '"operation":"traffic"' in (tmp_path / EVENTS).read_text()
    with pytest.raises(NotRunning):  # what answers already was let in before
        changes.set_traffic("income", {"income@1": 1.0}, expect_epoch=1)


def test_elsewhere_it_is_let_through_and_on_record(tmp_path: Path) -> None:
    changes = guarded(tmp_path, "sandbox")
    with pytest.raises(NotRunning):
        changes.set_traffic("income", SPLIT, expect_epoch=1)
    assert '"operation":"traffic_unproven"' in (tmp_path / EVENTS).read_text()
