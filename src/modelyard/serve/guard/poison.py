"""Remembers which requests were with a worker when it died or hung, and keeps those away that did it twice."""

from __future__ import annotations

from hashlib import blake2b

MOST = 1024  # entries of some 200 bytes; more suspects at once than a batch has rows
BLOCK_S = 60.0
FORGET_S = 300.0
BLAMES = 2  # the first may be bad luck: everyone in the batch is blamed

_DIGEST_BYTES = 16


def digest_of(body: bytes) -> bytes:
    """Return the name of a body in the table.

    >>> len(digest_of(b"{}"))
    16
    """
    return blake2b(body, digest_size=_DIGEST_BYTES).digest()


class Poison:
    """A bounded table of bodies under suspicion. Of one thread.

    While it is empty, which is nearly always, a request pays for one truth test of `suspects`, and no digest is made:

        if poison.suspects and (left_s := poison.blocked(digest_of(body), now)) is not None: ...

    A body that was blamed once is only watched; blamed again, it is refused for `block_s`, and after that refused
    again at its next blame. Whoever is not blamed for `forget_s` is forgotten.
    """

    __slots__ = ("block_s", "forget_s", "most", "suspects")

    def __init__(self, *, most: int = MOST, block_s: float = BLOCK_S, forget_s: float = FORGET_S) -> None:
        if most < 1 or not 0 < block_s <= forget_s:
            raise ValueError("The table of suspects needs room, and must not forget whom it refuses.")
        self.most, self.block_s, self.forget_s = most, block_s, forget_s
        self.suspects: dict[
            bytes, tuple[int, float]
        ] = {}  # blames and the time of the last, least recently blamed first

    def blame(self, digest: bytes, now: float) -> None:
        """Note that a worker died or hung with a body."""
        self._forget(now)
        count, _ = self.suspects.pop(digest, (0, now))
        if len(self.suspects) >= self.most:
            del self.suspects[next(iter(self.suspects))]
        self.suspects[digest] = (count + 1, now)

    def clear(self, digest: bytes) -> None:
        """Note that a body was answered well: it was someone else."""
        self.suspects.pop(digest, None)

    def blocked(self, digest: bytes, now: float) -> float | None:
        """Return the seconds for which a body is still refused; None where it is not."""
        self._forget(now)
        count, last = self.suspects.get(digest, (0, now))
        left_s = last + self.block_s - now
        return left_s if count >= BLAMES and left_s > 0 else None

    def count(self, now: float) -> int:
        """Return how many bodies are refused."""
        self._forget(now)
        return sum(count >= BLAMES and now < last + self.block_s for count, last in self.suspects.values())

    def _forget(self, now: float) -> None:
        """Drop whom nobody blamed for long; each entry is looked at once more than it is dropped."""
        while self.suspects:
            oldest = next(iter(self.suspects))
            if now - self.suspects[oldest][1] < self.forget_s:
                return
            del self.suspects[oldest]
