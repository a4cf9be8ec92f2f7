"""Names of things: what they may look like and how they are read."""

from __future__ import annotations

import re
import secrets

import msgspec

from modelyard.errors import UsageError

NAME = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")


class ReleaseId(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """A release: a name and a number counted from 1; written `income@2`."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


def check_name(name: str) -> str:
    """Return `name` if it may name a system; raises UsageError otherwise."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"`{name}` cannot be a name: wanted 1 to 63 of a-z, 0-9, `_` and `-`, beginning with a letter."
        )
    return name


def parse_release(text: str) -> tuple[str, int | None]:
    """Split `income@2` into its name and number; the number is None when left out.

    >>> parse_release("income@2")
    ('income', 2)
    >>> parse_release("income")
    ('income', None)
    """
    name, at, number = text.partition("@")
    check_name(name)
    if not at:
        return name, None
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise UsageError(f"`{text}` is not a release: wanted NAME@NUMBER with a number from 1, as in `{name}@1`.")
    return name, int(number)


def new_id(prefix: str) -> str:
    """Return a new random id such as `run-5f3a9c0d1e2b`."""
    return f"{prefix}-{secrets.token_hex(6)}"
