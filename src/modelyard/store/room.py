"""Room on the disk: how much the store uses and how much more it may."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelyard.errors import QuotaExceeded
from modelyard.store.folder import size_of


class Room:
    """The quota of one store. Without a quota only the disk's free space bounds it."""

    def __init__(self, home: Path, *, quota_bytes: int | None) -> None:
        self.home, self.quota_bytes = home, quota_bytes

    def used_bytes(self) -> int:
        """Return the bytes of all files of the store."""
        return size_of(self.home)

    def ensure(self, size_bytes: int) -> None:
        """Raise QuotaExceeded if `size_bytes` more would not fit."""
        free = shutil.disk_usage(self.home).free
        if size_bytes > free:
            raise QuotaExceeded(
                f"The disk of `{self.home}` has {_mb(free)} free and {_mb(size_bytes)} are needed. "
                f"Free space on it, or run `modelyard gc` (`modelyard gc --dry-run` shows what would go)."
            )
        if self.quota_bytes is None:
            return
        used = self.used_bytes()
        if used + size_bytes > self.quota_bytes:
            raise QuotaExceeded(
                f"The store in `{self.home}` uses {_mb(used)} of its quota of {_mb(self.quota_bytes)} and "
                f"{_mb(size_bytes)} more are needed. Run `modelyard gc` (`modelyard gc --dry-run` shows what "
                f"would go) or raise the quota."
            )


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
