"""`serving`: how a release is served, and what answers when it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from pydantic import Field

from modelyard.spec.fallback import Fallback, RefuseFallback, check_fallback
from modelyard.spec.faults import Fault
from modelyard.spec.section import Section
from modelyard.spec.task import TaskSpec

ENDPOINT = r"^/api/v[0-9]+/[a-z0-9\-]+$"
FILE = r"^/.+$"
URL = r"^https?://[^/\s]+(/\S*)?$"
BATCH_ROWS = 256  # where nothing was measured at sealing and the spec says nothing
HOST = r"^([A-Za-z0-9]([A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?|\[?[0-9A-Fa-f:]{2,45}\]?)$"


class UnknownCategory(StrEnum):
    """What becomes of a category that training never saw."""

    ACCEPT = "accept"
    REFUSE = "refuse"


class ServingSpec(Section):
    """How a release is served, and what answers when it cannot."""

    host: str = Field(
        default="127.0.0.1",
        pattern=HOST,
        description="Address to listen on.",
        json_schema_extra={"x-wanted": "a host name or an address, such as 127.0.0.1"},
    )
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on.")
    grpc_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the gRPC door, at the same address; without one there is none.",
    )
    management_host: str = Field(
        default="127.0.0.1",
        pattern=HOST,
        description="Address where releases are loaded and unloaded over HTTP, with a key that may manage.",
        json_schema_extra={"x-wanted": "a host name or an address, such as 127.0.0.1"},
    )
    management_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the management address; without one there is none."
    )
    keys: bool = Field(
        default=False,
        description="Who asks for predictions needs an API key; `modelyard keys add` makes one. Beyond loopback "
        "metadata, statistics and metrics need one too; health never does.",
    )
    tls_cert: str | None = Field(
        default=None,
        pattern=FILE,
        description="Certificate for TLS on every door, PEM, its chain behind it; with `tls_key`.",
        json_schema_extra={"x-wanted": "a path from the root, such as /etc/ssl/service.pem, since releases are moved"},
    )
    tls_key: str | None = Field(
        default=None,
        pattern=FILE,
        description="The certificate's private key, PEM, without a password.",
        json_schema_extra={"x-wanted": "a path from the root, such as /etc/ssl/service.key, since releases are moved"},
    )
    endpoint: str | None = Field(
        default=None,
        pattern=ENDPOINT,
        description="A second address of the plain rows form, where wanted.",
        json_schema_extra={"x-wanted": "a path such as /api/v1/income: `/api/v`, a number, `/`, then a-z, 0-9 and `-`"},
    )
    deadline_ms: int = Field(default=1000, ge=1, le=600_000, description="Longest time until an answer.")
    fronts: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that read requests and write answers; one is enough for two cores.",
    )
    workers: int | None = Field(
        default=None, ge=1, le=256, description="Processes that run the model; by default as measured at sealing."
    )
    threads: int | None = Field(
        default=None, ge=1, le=256, description="Threads of each worker; by default as measured at sealing."
    )
    memory_mb: int | None = Field(
        default=None,
        ge=16,
        le=16_777_216,
        description="Memory of a worker beyond which it is replaced; by default as measured at sealing.",
    )
    standby: bool = Field(
        default=True,
        description="Keep a process with its libraries loaded, so that a worker is replaced in a fraction of the time.",
    )
    keep_warm_s: float = Field(
        default=600.0, ge=0, le=604_800, description="Time that a release stays loaded after another took its place."
    )
    pin_versions: bool = Field(
        default=False, description="A caller may name any version in the traffic table in the address."
    )
    max_batch_rows: int | None = Field(
        default=None, ge=1, le=100_000,
        description="Most rows in one batch to the model; by default as measured at sealing.",
    )  # fmt: skip
    max_delay_ms: float | None = Field(
        default=None, ge=0, le=1000,
        description="Time that a row may wait for others while the model is idle; by default as measured at sealing.",
    )  # fmt: skip
    queue_mb: float = Field(
        default=64.0, gt=0, le=65_536, description="Most that waits, in millions of bytes; beyond it 503 at once."
    )
    queue_rows: int = Field(
        default=4096, ge=1, le=10_000_000, description="Most rows that wait; beyond them the answer is 503 at once."
    )
    max_body_mb: float = Field(
        default=16.0, gt=0, le=1024, description="Largest request body, in millions of bytes; beyond it 413."
    )
    unknown_category: UnknownCategory = Field(
        default=UnknownCategory.ACCEPT,
        description="A category that training never saw: accept (the model treats it as unknown) or refuse (422).",
    )
    price_per_cpu_hour: float = Field(
        default=0.04, ge=0, le=1_000_000, description="Price of one core for an hour, for the cost figures."
    )
    trace_sample: float = Field(
        default=0.0, ge=0, le=1,
        description="Share of requests that are traced; one whose caller traces it always is.",
    )  # fmt: skip
    otlp_endpoint: str | None = Field(
        default=None, pattern=URL, description="Where traces are sent, OTLP over HTTP; without one they are not.",
        json_schema_extra={"x-wanted": "an address such as http://127.0.0.1:4318"},
    )  # fmt: skip
    log_sample_per_s: float = Field(
        default=100.0, ge=0, le=1_000_000, description="Most requests a second that are written to the log, by chance."
    )
    drain_s: float = Field(default=10.0, ge=0, le=3600, description="Time that open requests get when a service stops.")
    fallback: tuple[Fallback, ...] = Field(
        default=(RefuseFallback(kind="refuse"),),
        min_length=1,
        max_length=8,
        description="What answers when the model cannot, in this order.",
    )


def check_serving(serving: ServingSpec, task: TaskSpec) -> Iterator[Fault]:
    """Yield what does not go together in serving."""
    most_rows = serving.max_batch_rows or BATCH_ROWS
    if serving.queue_rows < most_rows:
        yield Fault(
            place=("serving", "queue_rows"),
            seen=str(serving.queue_rows),
            wanted=f"at least `max_batch_rows`, {most_rows}",
            reads=(("serving", "max_batch_rows"),),
        )
    for name, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(serving, name) is None and getattr(serving, other) is not None:
            yield Fault(
                place=("serving", name), seen="nothing", wanted=f"a path beside `{other}`: TLS needs both",
                reads=(("serving", other),),
            )  # fmt: skip
    ports = [name for name in ("port", "grpc_port", "management_port") if getattr(serving, name) is not None]
    for place, name in enumerate(ports):
        same = [other for other in ports[:place] if getattr(serving, other) == getattr(serving, name)]
        if same:
            yield Fault(
                place=("serving", name), seen=str(getattr(serving, name)), wanted=f"another port than `{same[0]}`",
                reads=(("serving", same[0]),),
            )  # fmt: skip
    yield from check_fallback(serving.fallback, task)
