"""Changes of traffic with the rule before them: in production, only where the way back was rehearsed."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from modelyard.core.evidence import Evidence
from modelyard.core.ids import parse_release
from modelyard.core.machine import fingerprint
from modelyard.errors import WayBackUnproven
from modelyard.rollout.drills import DRILL_MAX_AGE_S
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
        return why_unproven(self._evidence(), self.kind, fingerprint(), DRILL_MAX_AGE_S, self.changes.clock.now())

    def refused(self, environment: str) -> str | None:
        """Return why the change must not be made in an environment; None where it may."""
        now = self.changes.clock.now()
        return check_way_back(self._evidence(), self.kind, fingerprint(), DRILL_MAX_AGE_S, environment, now)

    def _evidence(self) -> list[Evidence]:
        releases = self.changes.store()[1]
        return [record for _, record in releases.evidence(releases.get(self.ref).id)]


@dataclass(frozen=True)
class GuardedChanges(Changes):
    """Changes whose deploys need a proven way back in production; elsewhere what was not proven is said and logged."""

    def deploy(self, ref: str) -> Changed:
        """Let a release answer, as `Changes.deploy` does and raises; raises WayBackUnproven in production."""
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
