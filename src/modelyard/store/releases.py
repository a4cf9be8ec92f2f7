"""Sealed bundles under names and numbers, with their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from modelyard.core.clock import Clock, stamp
from modelyard.core.codec import decode, digest, encode, encode_pretty, sync_folder, write_atomic
from modelyard.core.evidence import Evidence
from modelyard.core.ids import ReleaseId, check_name, parse_release
from modelyard.core.release import EvidenceRef, Release
from modelyard.errors import BodyCollected, BundleAltered, BundleError, BundleFormat, UnknownName
from modelyard.store import schema
from modelyard.store.bodies import Bodies
from modelyard.store.database import Database
from modelyard.store.folder import disk, remove

_TABLE = schema.releases
_EVIDENCE = schema.evidence


class DatabaseReleases:
    """The Releases port: bodies by digest, rows in the database, records in `folder/<name>/<number>/`.

    The rows are the truth. `release.json` is the release as it was sealed, for people and other
    programs; an evidence file counts once its row is committed and is read by the hash in that row.
    """

    def __init__(self, folder: Path, *, bodies: Bodies, database: Database, clock: Clock) -> None:
        self._folder, self._bodies, self._database, self._clock = folder, bodies, database, clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def seal(self, name: str, body: Path, evidence: Sequence[Evidence], *, headline: str, spec_digest: str) -> Release:
        """Give the body in folder `body` the next number of `name`.

        A body that `name` already has keeps its number, and evidence that is not there yet is
        appended; so sealing again after a kill changes nothing.
        Raises: BundleAltered, BundleFormat, QuotaExceeded; BundleError where evidence is of another body.
        """
        check_name(name)
        with disk(self._folder), self._bodies.in_use():
            placed = self._bodies.place(body)
            with self._database.write() as connection:
                found = connection.execute(_where(name).where(_TABLE.c.body == placed.digest)).first()
                release = _release(found) if found else None
                if release is None:
                    release = Release(
                        id=ReleaseId(name=name, number=_next_number(connection, name)),
                        body=placed.digest,
                        spec_digest=spec_digest,
                        sealed=stamp(self._clock.now()),
                        headline=headline,
                        size_bytes=placed.size_bytes,
                    )
                    self._insert(connection, release)
                elif release.collected is not None:
                    connection.execute(sa.update(_TABLE).where(*_is(release.id)).values(collected=None))
                    release = msgspec.structs.replace(release, collected=None)
                for record in evidence:
                    self._append(connection, release, record)
        return release

    def get(self, id: ReleaseId | str) -> Release:
        """Return a release; a name alone means its newest. Raises UnknownName."""
        name, number = (id.name, id.number) if isinstance(id, ReleaseId) else parse_release(id)
        query = _where(name) if number is None else _where(name).where(_TABLE.c.number == number)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(_TABLE.c.number.desc()).limit(1)).first()
            if row is None:
                raise UnknownName("release", str(id), _known(connection, name))
        return _release(row)

    def all(self, name: str | None = None) -> list[Release]:
        """Return the releases of a name, or all, by name and number."""
        query = sa.select(_TABLE) if name is None else _where(name)
        with self._database.read() as connection:
            return [_release(row) for row in connection.execute(query.order_by(_TABLE.c.name, _TABLE.c.number))]

    def body(self, id: ReleaseId) -> Path:
        """Return the folder of the body, every byte verified; raises BundleAltered, BodyCollected."""
        release = self.get(id)
        if release.collected is not None:
            raise BodyCollected(
                f"The body of `{id}` was removed by a collection on {release.collected}; its evidence is still there. "
                f"Run its spec again (digest {release.spec_digest}), or use another release of `{id.name}`."
            )
        return self._bodies.open(release.body)

    def evidence(self, id: ReleaseId, *, append: Evidence | None = None) -> list[tuple[EvidenceRef, Evidence]]:
        """Append one record if given, and return all, oldest first, their hashes verified."""
        release = self.get(id)
        if append is not None:
            with disk(self._folder), self._database.write() as connection:
                self._append(connection, release, append)
        with self._database.read() as connection:
            query = sa.select(_EVIDENCE).where(*_of(id)).order_by(_EVIDENCE.c.sequence)
            rows = connection.execute(query).all()
        return [self._read(id, row) for row in rows]

    def _insert(self, connection: Connection, release: Release) -> None:
        folder = self._path(release.id)
        remove(folder)  # of a sealing that was killed before its row was committed
        (folder / "evidence").mkdir(mode=0o700, parents=True)
        for made in (folder, folder.parent, self._folder):
            sync_folder(made)
        sealed = {key: value for key, value in msgspec.to_builtins(release).items() if key != "collected"}
        write_atomic(folder / "release.json", encode_pretty(sealed), mode=0o400)
        values = {**sealed, "name": release.id.name, "number": release.id.number}
        del values["id"]
        connection.execute(sa.insert(_TABLE).values(**values))

    def _append(self, connection: Connection, release: Release, record: Evidence) -> None:
        """Write a record's file, then its row; exactly the same record twice is one."""
        if record.body != release.body:
            raise BundleError(
                f"The evidence is of body `{record.body}` and `{release.id}` has body `{release.body}`. "
                f"Measure the body that is sealed."
            )
        data = encode(msgspec.structs.replace(record, release=str(release.id)))
        of, name = _of(release.id), digest(data)
        if connection.execute(sa.select(_EVIDENCE.c.digest).where(*of, _EVIDENCE.c.digest == name)).first():
            return
        last = connection.execute(sa.select(sa.func.max(_EVIDENCE.c.sequence)).where(*of)).scalar()
        sequence, kind = (last or 0) + 1, str(record.payload.__struct_config__.tag)
        write_atomic(self._path(release.id) / "evidence" / _file_name(sequence, kind, name), data, mode=0o400)
        connection.execute(
            sa.insert(_EVIDENCE).values(
                name=release.id.name,
                number=release.id.number,
                sequence=sequence,
                kind=kind,
                digest=name,
                recorded=record.recorded,
            )
        )

    def _read(self, id: ReleaseId, row: Row[Any]) -> tuple[EvidenceRef, Evidence]:
        path = self._path(id) / "evidence" / _file_name(row.sequence, row.kind, row.digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as fault:
            raise BundleAltered(f"`{path}` differs: seen nothing, wanted sha256 {row.digest}.") from fault
        if digest(data) != row.digest:
            raise BundleAltered(
                f"`{path}` differs: seen sha256 {digest(data)}, wanted sha256 {row.digest}. "
                f"The evidence of `{id}` was edited: restore the file from a copy."
            )
        try:
            record = decode(data, Evidence)
        except msgspec.DecodeError as fault:
            raise BundleFormat(f"`{path}` is whole but cannot be read by this version: {fault}.") from fault
        return EvidenceRef(kind=row.kind, digest=row.digest, recorded=row.recorded), record

    def _path(self, id: ReleaseId) -> Path:
        return self._folder / id.name / str(id.number)


def _where(name: str) -> sa.Select[Any]:
    return sa.select(_TABLE).where(_TABLE.c.name == name)


def _is(id: ReleaseId) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return _TABLE.c.name == id.name, _TABLE.c.number == id.number


def _of(id: ReleaseId) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return _EVIDENCE.c.name == id.name, _EVIDENCE.c.number == id.number


def _next_number(connection: Connection, name: str) -> int:
    """Return the number after the last; no other writer is about, so it is free and leaves no gap."""
    return (connection.execute(sa.select(sa.func.max(_TABLE.c.number)).where(_TABLE.c.name == name)).scalar() or 0) + 1


def _known(connection: Connection, name: str) -> list[str]:
    """Return the releases of `name`, or the names there are if it has none."""
    own = [f"{row.name}@{row.number}" for row in connection.execute(_where(name))]
    return own or list(connection.execute(sa.select(_TABLE.c.name).distinct()).scalars())


def _file_name(sequence: int, kind: str, name: str) -> str:
    return f"{sequence:04d}-{kind}-{name[:12]}.json"


def _release(row: Row[Any]) -> Release:
    return Release(
        id=ReleaseId(name=row.name, number=row.number),
        body=row.body,
        spec_digest=row.spec_digest,
        sealed=row.sealed,
        headline=row.headline,
        size_bytes=row.size_bytes,
        collected=row.collected,
    )
