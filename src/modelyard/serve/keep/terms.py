"""On which terms a release's spec lets it be asked, beside those of the service that is to answer from it.

Keys and TLS are decided when a service is started: a release that is deployed does not change them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from modelyard.bundle.format import SPEC_IN_EFFECT
from modelyard.core.codec import decode
from modelyard.errors import BundleFormat
from modelyard.serve.messages import RunInfo


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a spec says under `serving` of who may ask, how and where; the rest of it is not read."""

    keys: bool = False
    tls_cert: str | None = None
    endpoint: str | None = None  # the plain rows form's own path


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    serving: Terms = Terms()


def terms_of(body: Path) -> Terms:
    """Return the terms in a body that was verified; raises BundleFormat."""
    try:
        return decode((body / SPEC_IN_EFFECT).read_bytes(), _Sealed).serving
    except msgspec.MsgspecError as fault:
        raise BundleFormat(f"`{body / SPEC_IN_EFFECT}` cannot be read: {fault}. Build the release again.") from fault


def refused(release: str, terms: Terms, run: RunInfo) -> str | None:
    """Say why a release must not answer here: its spec protects it by what the service was started without."""
    lacking = []
    if terms.keys and not run.needs_key:
        lacking.append("`serving.keys: true`, while the service asks nobody for a key")
    if terms.tls_cert is not None and not run.tls:
        lacking.append("`serving.tls_cert`, while the service answers without TLS")
    if not lacking:
        return None
    return (
        f"`{release}` would be less protected than its spec says: {'; '.join(lacking)}. That is decided when a service "
        f"starts. Start it with this release: modelyard stop {run.service}, then modelyard serve {release}"
    )


def ignored(release: str, terms: Terms, run: RunInfo) -> tuple[str, ...]:
    """Return in words what a release's spec says otherwise than the service goes on doing."""
    found = []
    if run.needs_key and not terms.keys:
        found.append(f"The service goes on asking for keys, though `{release}` says `serving.keys: false`")
    if run.tls and terms.tls_cert is None:
        found.append(f"The service goes on answering with TLS, though `{release}` names no `serving.tls_cert`")
    elif run.tls and terms.tls_cert != run.tls_cert:
        found.append(f"The service goes on with the certificate `{run.tls_cert}`; `{release}` names `{terms.tls_cert}`")
    again = f"modelyard stop {run.service}, then modelyard serve {release}"
    return tuple(f"{one}. It counts when the service is started with it: {again}" for one in found)
