"""The traffic table that a front follows, and a lane for each release in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from modelyard.bundle.format import Body
from modelyard.bundle.open import read_body, verify
from modelyard.errors import BundleError, ContractBroken
from modelyard.serve.lane import Lane, Watcher
from modelyard.serve.messages import Limits, Routes


class Table:
    """Takes only a table with a higher epoch, and only once its releases answer. Of one thread."""

    def __init__(
        self, *, run_folder: Path, workers: int, limits: Limits, watcher: Watcher, switched: Callable[[str], None]
    ) -> None:
        self.run_folder, self.workers, self.limits = run_folder, workers, limits
        self.lanes: dict[str, Lane] = {}
        self.routes: Routes | None = None
        self.coming: Routes | None = None  # a newer table whose workers are not all ready
        self._watcher, self._switched = watcher, switched
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def epoch(self) -> int:
        return -1 if self.routes is None else self.routes.traffic.epoch

    @property
    def live(self) -> list[Lane]:
        """Return the lanes that have a share."""
        if self.routes is None:
            return []
        return [self.lanes[release] for release in _with_share(self.routes)]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look for workers."""
        self._loop = loop
        for lane in self.lanes.values():
            lane.start(loop)

    def adopt(self, routes: Routes) -> None:
        """Follow a traffic table, once its releases answer; only one with a higher epoch is taken.

        The same epoch may bring other bodies that are kept warm. A release without a share holds nothing up.
        """
        newest = max(self.epoch, -1 if self.coming is None else self.coming.traffic.epoch)
        if routes.traffic.epoch < newest or (routes == self.routes and self.coming is None):
            return
        for release, ref in routes.bodies.items():
            if release not in self.lanes:
                self._open(release, Path(ref.folder), ref.digest)
        if any(release not in self.lanes for release in _with_share(routes)):
            return
        self.coming = routes
        if self.routes is None or routes.traffic == self.routes.traffic:
            self._switch()

    def switch_if_ready(self) -> None:
        """Take the newer table once all its releases that have a share answer."""
        if self.coming is not None and all(self.lanes[release].ready for release in _with_share(self.coming)):
            self._switch()

    def open(self, release: str, body: Body) -> None:
        """Know a release; raises ContractBroken where its golden requests break its own contract."""
        lane = Lane(
            release,
            body,
            run_folder=self.run_folder,
            workers=self.workers,
            limits=self.limits,
            watcher=self._watcher,
        )
        self.lanes[release] = lane
        if self._loop is not None:
            lane.start(self._loop)

    def close(self) -> None:
        """Let go of all workers."""
        for lane in self.lanes.values():
            lane.close()

    def _open(self, release: str, folder: Path, digest: str) -> None:
        try:
            verify(folder, wanted=digest)
            self.open(release, read_body(folder))
        except (BundleError, ContractBroken) as fault:
            self._watcher.note("release_refused", release=release, why=str(fault))

    def _switch(self) -> None:
        assert self.coming is not None
        self.routes, self.coming = self.coming, None
        for release, lane in self.lanes.items():
            lane.set_previous(self.routes.previous.get(release))
        for release in [release for release in self.lanes if release not in self.routes.bodies]:
            self.lanes.pop(release).close()
            self._switched(release)
        self._switched("")


def _with_share(routes: Routes) -> list[str]:
    return [release for release, share in routes.traffic.shares.items() if share > 0]
