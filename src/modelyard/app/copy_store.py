"""The store of a copy of a service: a row of its own, and the sealed bodies that the copy was told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.core.evidence import Evidence
from modelyard.core.ids import ReleaseId, parse_release
from modelyard.core.release import EvidenceRef, Release, Service
from modelyard.errors import UnknownName, UsageError
from modelyard.serve.messages import BodyRef
from modelyard.store.database import Database, sqlite_url
from modelyard.store.services import DatabaseServices

DATABASE = "store.db"


@dataclass(frozen=True)
class CopyServices:
    """The Services port over the copy's own database, opened anew for each call: when it goes away, that is seen."""

    home: Path

    def get(self, name: str) -> Service | None:
        database = self._open()
        try:
            return DatabaseServices(database).get(name)
        finally:
            database.close()

    def put(self, service: Service, *, expect_epoch: int | None) -> None:
        database = self._open()
        try:
            DatabaseServices(database).put(service, expect_epoch=expect_epoch)
        finally:
            database.close()

    def all(self) -> list[Service]:
        database = self._open()
        try:
            return DatabaseServices(database).all()
        finally:
            database.close()

    def _open(self) -> Database:
        return Database(sqlite_url(self.home / DATABASE))


@dataclass(frozen=True)
class CopyReleases:
    """The Releases port over bodies by release; nothing can be sealed here."""

    bodies: Mapping[str, BodyRef]

    def seal(self, name: str, body: Path, evidence: Sequence[Evidence], *, headline: str, spec_digest: str) -> Release:
        raise UsageError(f"`{name}` runs as a copy for a drill; nothing is sealed in it.")

    def get(self, id: ReleaseId | str) -> Release:
        ref = self.bodies.get(str(id))
        if ref is None:
            raise UnknownName("release in this copy", str(id), tuple(self.bodies))
        name, number = parse_release(str(id))
        return Release(
            id=ReleaseId(name=name, number=number or 1), body=ref.digest, spec_digest="", sealed="", headline="",
            size_bytes=0,
        )  # fmt: skip

    def all(self, name: str | None = None) -> list[Release]:
        return [self.get(ref) for ref in sorted(self.bodies) if name in (None, parse_release(ref)[0])]

    def body(self, id: ReleaseId) -> Path:
        self.get(id)
        return Path(self.bodies[str(id)].folder)

    def evidence(self, id: ReleaseId, *, append: Evidence | None = None) -> list[tuple[EvidenceRef, Evidence]]:
        return []
