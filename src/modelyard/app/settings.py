"""Settings: the environment variables, read once."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from modelyard.errors import UsageError

HOME = "MODELYARD_HOME"
DATABASE_URL = "MODELYARD_DATABASE_URL"
QUOTA_GB = "MODELYARD_QUOTA_GB"
CHANGE_TICKET = "MODELYARD_CHANGE_TICKET"
USER = "MODELYARD_USER"

VARIABLES = {
    HOME: "folder of the store; `~/.modelyard` by default",
    DATABASE_URL: "SQLAlchemy URL of the store's database; SQLite in the folder by default",
    QUOTA_GB: "most disk that the store may use, in billions of bytes; no bound by default",
    CHANGE_TICKET: "ticket that changes are made under, for the audit log",
    USER: "who makes changes, for the audit log; the login name by default",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the environment says."""

    home: Path
    database_url: str | None = None
    quota_bytes: int | None = None
    change_ticket: str | None = None
    user: str = "unknown"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of the process's environment, or of the mapping given; raises UsageError."""
    source = os.environ if environment is None else environment  # noqa: TID251 - the one place that reads it
    quota = source.get(QUOTA_GB)
    try:
        quota_bytes = None if not quota else int(float(quota) * 1e9)
    except (ValueError, OverflowError):
        quota_bytes = -1
    if quota_bytes is not None and quota_bytes <= 0:
        raise UsageError(f"`{QUOTA_GB}` is `{quota}`: wanted a number above 0, such as 20.")
    return Settings(
        home=Path(source.get(HOME) or "~/.modelyard").expanduser().absolute(),
        database_url=source.get(DATABASE_URL) or None,
        quota_bytes=quota_bytes,
        change_ticket=source.get(CHANGE_TICKET) or None,
        user=source.get(USER) or _login(),
    )


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"
