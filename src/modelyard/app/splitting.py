"""The verb that splits a service's traffic by hand: shares, rules, copies; and whom a request meets, recomputed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from modelyard.app.traffic import TrafficVerbs
from modelyard.core.release import HeaderRule, Traffic
from modelyard.errors import UsageError
from modelyard.flow.rollout.courses import Courses
from modelyard.serve.keep.change import Changed
from modelyard.serve.keep.following import largest
from modelyard.serve.routing import meet, mirrored


class Meeting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom a request meets by a table, and why."""

    epoch: int
    release: str
    probability: float
    key: str | None
    rule: HeaderRule | None
    copied_to: tuple[str, ...]


@dataclass(frozen=True)
class SplitVerbs:
    """Commands on how the traffic of this store's services is split."""

    traffic: TrafficVerbs

    def table(self, name: str) -> Traffic:
        """Return the table in force; raises UnknownName."""
        with self.traffic.changes() as changes:
            return changes.current(name)

    def meeting(self, name: str, request: str, headers: Mapping[str, str]) -> Meeting:
        """Return whom a request with that id and these headers meets by the table in force."""
        table = self.table(name)
        met = meet(table, {key.lower().encode(): value.encode() for key, value in headers.items()}, request)
        copies = mirrored(table, request) if met.drawn else ()
        return Meeting(
            epoch=table.epoch,
            release=met.release,
            probability=met.probability,
            key=met.key,
            rule=met.rule,
            copied_to=tuple(copies),
        )

    def split(
        self,
        name: str,
        *,
        shares: Mapping[str, float] | None = None,
        rules: Sequence[HeaderRule] | None = None,
        shadow: Mapping[str, float] | None = None,
        key_header: str | None = None,
    ) -> Changed:
        """Change parts of the table; what is None stays as it is. Releases without a share are loaded too.

        Raises: UsageError where a rollout is open and more than rules are changed; and as `Changes.set_traffic`.
        """
        is_more = any(part is not None for part in (shares, shadow, key_header))
        if is_more and Courses(self.traffic.settings.home / "run" / name).is_open:
            raise UsageError(
                f"A rollout of `{name}` is open, and keeps shares and copies as it needs them. Let it end, or take it "
                f"back: modelyard rollback {name}"
            )
        with self.traffic.changes() as changes:
            table = changes.current(name)
            named = {rule.release for rule in (table.rules if rules is None else rules)}
            copied = table.shadow if shadow is None else shadow
            live = {one: share for one, share in (table.shares if shares is None else shares).items() if share > 0}
            whole = live | dict.fromkeys((named | copied.keys()) - live.keys(), 0.0)
            previous = table.previous if shares is None else _previous(table, live)
            return changes.set_traffic(
                name,
                whole,
                expect_epoch=table.epoch,
                previous=previous,
                rules=table.rules if rules is None else rules,
                shadow=copied,
                key_header=key_header or table.key_header,
                watch=table.watch,
            )


def _previous(table: Traffic, live: Mapping[str, float]) -> str | None:
    """Return where a rollback goes: the release that had the most; where that has it all again, as before."""
    most = largest(table)
    return table.previous if live.keys() == {most} and table.previous != most else most
