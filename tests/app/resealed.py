"""A release again, whose spec says otherwise how it is served: no new training for another port."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from modelyard.bundle.format import MANIFEST, SPEC_IN_EFFECT, FileEntry, Manifest
from modelyard.core.codec import decode, digest, encode
from tests.app.grpc_caller import free_port
from tests.journeys.making import Place


def sealed(place: Place, folder: Path, **serving: Any) -> str:
    """Seal the first release once more with a port for gRPC, and what else its spec says of serving."""
    with place.app.store() as store:
        first = store.releases.get("shop@1")
        shutil.copytree(store.releases.body(first.id), folder)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o700)
        spec = json.loads((folder / SPEC_IN_EFFECT).read_bytes())
        spec["serving"] |= {"grpc_port": free_port(), **serving}
        data = encode(spec)
        (folder / SPEC_IN_EFFECT).write_bytes(data)
        manifest = decode((folder / MANIFEST).read_bytes(), Manifest)
        files = manifest.files | {SPEC_IN_EFFECT: FileEntry(size=len(data), sha256=digest(data))}
        (folder / MANIFEST).write_bytes(encode(replace(manifest, files=files)))
        return str(store.releases.seal("shop", folder, [], headline="with gRPC", spec_digest=first.spec_digest).id)
