"""The verbs that tell of releases: show, card, report, diff."""

from __future__ import annotations

import os
from pathlib import Path

from modelyard.app.records import Records
from modelyard.app.sealed_spec import spec_of
from modelyard.bundle.format import SPEC
from modelyard.core.codec import write_atomic
from modelyard.core.evidence import BuildEvidence, Evidence
from modelyard.core.release import EvidenceRef, Release
from modelyard.errors import AlreadyExists, BundleFormat, UsageError
from modelyard.release import card, report
from modelyard.release.diff import DiffReport, ReleaseView, diff


class Telling(Records):
    """What releases are, and what is claimed of them."""

    def show(self, ref: str) -> tuple[Release, list[tuple[EvidenceRef, Evidence]], str, str]:
        """Return a release, its evidence, its spec's text and its goal; every byte is verified."""
        with self.store() as store:
            release = store.releases.get(ref)
            body = store.releases.body(release.id)
            text = (body / SPEC).read_text(encoding="utf-8")
            return release, store.releases.evidence(release.id), text, spec_of(body).goal

    def card(self, ref: str) -> str:
        """Return the model card of a release as Markdown."""
        release, evidence, _, goal = self.show(ref)
        return card.render(release, evidence, goal=goal)

    def report(self, ref: str, out: Path) -> Path:
        """Write the report of a release as one HTML page."""
        check_out(out, overwrite=True)
        release, evidence, text, goal = self.show(ref)
        write_atomic(out, report.render(release, evidence, text, goal=goal).encode())
        return out

    def diff(self, first: str, second: str) -> DiffReport:
        """Return what differs between two releases."""
        return diff(self._view(first), self._view(second))

    def _view(self, ref: str) -> ReleaseView:
        with self.store() as store:
            release = store.releases.get(ref)
            body = store.releases.body(release.id)
            records = [record.payload for _, record in store.releases.evidence(release.id)]
            builds = [payload for payload in records if isinstance(payload, BuildEvidence)]
            if not builds:
                raise BundleFormat(f"`{release.id}` has no build on record; there is nothing to compare.")
            text = (body / SPEC).read_text(encoding="utf-8")
            return ReleaseView(release=release, build=builds[-1], spec_text=text)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that could not be written at its end or that must not be replaced."""
    if out.exists() and not overwrite:
        raise AlreadyExists(f"`{out}` is there already. Name another file with --out, or add --overwrite.")
    if out.is_dir():
        raise UsageError(f"`{out}` is a folder. Name a file with --out.")
    if not os.access(out.absolute().parent, os.W_OK):
        seen = "may not be written to" if out.absolute().parent.is_dir() else "is not a folder that is there"
        raise UsageError(f"`{out}` cannot be written: `{out.absolute().parent}` {seen}. Name another file with --out.")
