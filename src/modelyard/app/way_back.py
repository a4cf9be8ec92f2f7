"""Changes of traffic with the rule before them: outside a sandbox, only where the way back was rehearsed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from modelyard.bundle.format import SPEC_IN_EFFECT
from modelyard.core.codec import decode
from modelyard.core.drill import DRILL_MAX_AGE_DAYS
from modelyard.core.evidence import Evidence
from modelyard.core.ids import parse_release
from modelyard.core.machine import fingerprint
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
    """Changes whose deploys need a proven way back; in a sandbox what was not proven is said and logged instead."""

    def deploy(self, ref: str) -> Changed:
        """Let a release answer, as `Changes.deploy` does and raises; raises WayBackUnproven outside a sandbox."""
        services, releases = self.store()
        release = releases.get(ref).id
        row = services.get(release.name)
        if row is None:
            return super().deploy(ref)  # which says that there is no such service
        change = ServiceChange(self, str(release))
        resources = (release.name, str(release))
        if why := change.refused(row.environment):
            with self.audit.change("deploy", resources=resources, rollback_available=False):
                raise WayBackUnproven(
                    f"`{release}` is not deployed in {row.environment}: {why}. Rehearse it first: "
                    f"modelyard drill {release}"
                )
        unproven = change.prove()
        if unproven is None:
            return super().deploy(ref)
        about = {"environment": row.environment, "why": unproven}
        with self.audit.change("deploy_unproven", resources=resources, rollback_available=True, model=about):
            changed = super().deploy(ref)
        told = f"`{release}` answers in {row.environment} though {unproven}. Rehearse it: modelyard drill {release}"
        return replace(changed, warnings=(*changed.warnings, told))
