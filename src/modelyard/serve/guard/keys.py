"""API keys: who may ask and who may manage. At rest only the SHA-256 of each key, which is 256 random bits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Annotated

import msgspec

from modelyard.core.codec import decode, encode_pretty, write_atomic
from modelyard.core.ids import NAME
from modelyard.errors import AlreadyExists, UnknownName, UsageError
from modelyard.serve.messages import KEYS_FILE

PREFIX = "my-"  # so that a key that leaked can be searched for
_RANDOM_BYTES = 32
_BEARER = b"bearer "
_MOST_KEY = 256  # longer ones are not hashed


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key as it is kept: never the key itself."""

    label: str
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    manage: bool = False  # may also load, unload and stop
    rate: Annotated[float, msgspec.Meta(gt=0)] | None = None  # requests a second
    burst: Annotated[int, msgspec.Meta(ge=1)] = 1  # that may come at once
    created: str


class KeyTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of keys."""

    keys: tuple[KeyRecord, ...] = ()


class Keys:
    """What a process knows of the keys in a file; `refresh` follows changes of it.

    Where the file is gone nobody is let in; where it cannot be read as one, the keys known before stay and `fault`
    says why. Of one thread.
    """

    def __init__(self, path: Path, *, sharers: int = 1, guards_pages: bool = False) -> None:
        """`sharers` is over how many processes a caller's requests spread; each grants its part of the rate.

        `guards_pages`: what tells of the service needs a key as well, but for what probes ask.
        """
        self._path, self._sharers, self.guards_pages = path, sharers, guards_pages
        self._seen: tuple[int, int, int] | None = None
        self._known: dict[bytes, tuple[bytes, str]] = {}  # digest -> itself and its label
        self._managers: frozenset[str] = frozenset()
        self._buckets: dict[str, _Bucket] = {}
        self.fault = ""
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if it changed; say whether it did. To be called every second, and when told to."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return False
            table = decode(self._path.read_bytes(), KeyTable)
        except FileNotFoundError:
            changed, self._seen = self._seen is not None, None
            self._take(KeyTable())
            return changed
        except (OSError, msgspec.MsgspecError) as fault:
            self.fault = f"`{self._path}` cannot be read: {fault}"
            return False
        self._seen, self.fault = seen, ""
        self._take(table)
        return True

    def check(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return the label of the key that a request shows, in `authorization: Bearer` or `x-api-key`; None: none.

        Looked up by its SHA-256 and compared in constant time: how long it takes tells nothing of any key.
        """
        shown = headers.get(b"authorization")
        if shown is None:
            shown = headers.get(b"x-api-key")
            if shown is None:
                return None
        elif shown[:7].lower() == _BEARER:
            shown = shown[7:]
        else:
            return None
        if len(shown) > _MOST_KEY:
            return None
        digest = sha256(shown).digest()
        known = self._known.get(digest)
        return known[1] if known is not None and compare_digest(known[0], digest) else None

    def allow(self, label: str, now: float) -> float | None:
        """Take one request off what a key may ask; return None, or the seconds to wait where it may not now."""
        bucket = self._buckets.get(label)
        return None if bucket is None else bucket.take(now)

    def may_manage(self, label: str) -> bool:
        """Say whether a key may change what the service does."""
        return label in self._managers

    def _take(self, table: KeyTable) -> None:
        digests = [(bytes.fromhex(record.sha256), record.label) for record in table.keys]
        self._known = {digest: (digest, label) for digest, label in digests}
        self._managers = frozenset(record.label for record in table.keys if record.manage)
        before, self._buckets = self._buckets, {}
        for record in table.keys:
            if record.rate is not None:
                rate, burst = record.rate / self._sharers, max(1.0, record.burst / self._sharers)
                kept = before.get(record.label)
                same = kept is not None and (kept.rate, kept.burst) == (rate, burst)
                self._buckets[record.label] = kept if kept is not None and same else _Bucket(rate, burst)


class _Bucket:
    """Tokens that come back at a rate, up to a burst."""

    __slots__ = ("at", "burst", "rate", "tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.tokens = rate, burst, burst
        self.at: float | None = None

    def take(self, now: float) -> float | None:
        if self.at is not None and now > self.at:
            self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now if self.at is None else max(now, self.at)
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return None
        return (1.0 - self.tokens) / self.rate


def read_keys(folder: Path) -> KeyTable:
    """Return the keys of a run folder; raises UsageError where the file cannot be read as one."""
    path = folder / KEYS_FILE
    try:
        return decode(path.read_bytes(), KeyTable)
    except FileNotFoundError:
        return KeyTable()
    except (OSError, msgspec.MsgspecError) as fault:
        raise UsageError(f"The keys in `{path}` cannot be read: {fault}. Move the file away to begin anew.") from fault


def add_key(
    folder: Path, label: str, *, created: str, manage: bool = False, rate: float | None = None, burst: int = 1
) -> str:
    """Make a key, keep its hash, and return the key: it cannot be had again. Raises AlreadyExists, UsageError."""
    if not NAME.fullmatch(label):
        raise UsageError(f"`{label}` cannot be a label: wanted 1 to 63 of a-z, 0-9, `_` and `-`, a letter first.")
    key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    record = KeyRecord(
        label=label,
        sha256=sha256(key.encode()).hexdigest(),
        manage=manage,
        rate=rate,
        burst=burst,
        created=created,
    )
    with _changing(folder):
        table = read_keys(folder)
        if any(one.label == label for one in table.keys):
            raise AlreadyExists(f"There is a key `{label}` already. Remove it first, or choose another label.")
        _write(folder, KeyTable(keys=(*table.keys, record)))
    return key


def remove_key(folder: Path, label: str) -> None:
    """Let a key be one no more; raises UnknownName."""
    with _changing(folder):
        table = read_keys(folder)
        left = tuple(one for one in table.keys if one.label != label)
        if len(left) == len(table.keys):
            raise UnknownName("key", label, tuple(one.label for one in table.keys))
        _write(folder, KeyTable(keys=left))


def _write(folder: Path, table: KeyTable) -> None:
    write_atomic(folder / KEYS_FILE, encode_pretty(table), mode=0o600)


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """Let one command at a time change the keys."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / f".{KEYS_FILE}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
