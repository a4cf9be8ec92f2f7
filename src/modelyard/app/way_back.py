"""Changes of traffic with the rule before them: outside a sandbox, only where the way back was rehearsed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from modelyard.bundle.format import SPEC_IN_EFFECT
from modelyard.core.codec import decode
from modelyard.core.drill import DRILL_MAX_AGE_DAYS
from modelyard.core.evidence import Evidence
from modelyard.core.ids import parse_release
from modelyard.core.machine import fingerprint
from modelyard.core.release import Service
from modelyard.errors import WayBackUnproven
from modelyard.rollout.reversible import check_way_back, why_unproven
from modelyard.serve.keep.change import Changed, Changes


@dataclass(frozen=True)
class ServiceChange:
    """The change of which release answers: the kind `service` of what can be taken back."""

    changes: Changes
    ref: str

    @property
    def kind(self) -> str:
        return "service"

    def apply(self) -> Changed:
        """Let the release answer; raises as `Changes.deploy`."""
        return self.changes.deploy(self.ref)

    def undo(self) -> Changed:
        """Let the release before answer again; raises as `Changes.rollback`."""
        return self.changes.rollback(parse_release(self.ref)[0])

    def prove(self) -> str | None:
        evidence, max_age_s = self._rehearsed()
        return why_unproven(evidence, self.kind, fingerprint(), max_age_s, self.changes.clock.now())

    def refused(self, environment: str) -> str | None:
        """Return why the change must not be made in an environment; None where it may."""
        evidence, max_age_s = self._rehearsed()
        return check_way_back(evidence, self.kind, fingerprint(), max_age_s, environment, self.changes.clock.now())

    def _rehearsed(self) -> tuple[list[Evidence], float]:
        """Return the release's evidence, and the age in seconds beyond which its spec counts a drill no more."""
        releases = self.changes.store()[1]
        id = releases.get(self.ref).id
        return [record for _, record in releases.evidence(id)], drill_max_age_s(releases.body(id))


class _Rollout(msgspec.Struct, frozen=True):
    drill_max_age_days: float = DRILL_MAX_AGE_DAYS


class _Sealed(msgspec.Struct, frozen=True):
    """What is read of a sealed spec here; specs from before there was such a section take its default."""

    rollout: _Rollout = _Rollout()


def drill_max_age_s(body: Path) -> float:
    """Return the age in seconds beyond which a drill proves nothing of a body, as its sealed spec says.

    Read by itself, as the supervisor asks too, and the types of the whole spec would double its start.
    """
    return decode((body / SPEC_IN_EFFECT).read_bytes(), _Sealed).rollout.drill_max_age_days * 86_400.0


@dataclass(frozen=True)
class GuardedChanges(Changes):
    """Changes whose new releases need a proven way back; in a sandbox one that is not is said and logged instead."""

    def deploy(self, ref: str) -> Changed:
        """Let a release answer, as `Changes.deploy` does and raises; raises WayBackUnproven outside a sandbox."""
        services, releases = self.store()
        release = releases.get(ref).id
        row = services.get(release.name)
        if row is None:
            return super().deploy(ref)  # which says that there is no such service
        return self._guarded("deploy", [str(release)], row, lambda: super(GuardedChanges, self).deploy(ref))

    def set_traffic(self, name: str, shares: Mapping[str, float], **table: Any) -> Changed:
        """Split a service's traffic, as `Changes.set_traffic` does and raises.

        Raises: WayBackUnproven outside a sandbox, for a release that comes into the table.
        """
        row = self.store()[0].get(name)
        fresh = [] if row is None else [release for release in shares if release not in row.traffic.shares]

        def split() -> Changed:
            return super(GuardedChanges, self).set_traffic(name, shares, **table)

        return split() if row is None else self._guarded("traffic", fresh, row, split)

    def _guarded(self, operation: str, fresh: Sequence[str], row: Service, act: Callable[[], Changed]) -> Changed:
        """Let releases come, where their way back was rehearsed; where it need not be, say and log that it was not."""
        told = []
        for release in fresh:
            change = ServiceChange(self, release)
            if why := change.refused(row.environment):
                with self.audit.change(operation, resources=(row.name, release), rollback_available=False):
                    raise WayBackUnproven(
                        f"`{release}` is not deployed in {row.environment}: {why}. Rehearse it first: "
                        f"modelyard drill {release}"
                    )
            if unproven := change.prove():
                told.append((release, unproven))
        if not told:
            return act()
        resources = (row.name, *(release for release, _ in told))
        about = {"environment": row.environment, "why": "; ".join(dict.fromkeys(why for _, why in told))}
        with self.audit.change(f"{operation}_unproven", resources=resources, rollback_available=True, model=about):
            changed = act()
        more = [
            f"`{release}` answers in {row.environment} though {why}. Rehearse it: modelyard drill {release}"
            for release, why in told
        ]
        return replace(changed, warnings=(*changed.warnings, *more))
