"""What broke the contract, for programs: `google.rpc.Status` with a `BadRequest`, in the field clients look for it.

Source: google/rpc/status.proto and error_details.proto; clients want its code and message to be those of the call.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from modelyard.serve.doors import fault_records
from modelyard.serve.grpc import wire
from modelyard.serve.grpc.status import Status, shortened
from modelyard.serve.http2.hpack import encode

FIELD = b"grpc-status-details-bin"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
MOST_BYTES = 2_000  # of violations; with the message twice, all fields stay within the 8 KiB that clients take


def details(status: Status, message: str, faults: Sequence[str]) -> bytes:
    """Return the field that says each fault by place and reason; of many, as many as find room.

    A place is `column[row]`; rows count from 0.
    """
    found: list[bytes] = []
    room = MOST_BYTES
    for record in fault_records(faults):
        place, reason = _clean(_place(record["row"], record["column"])), _clean(record["reason"])
        violation = wire.blob(1, wire.text(1, place) + wire.text(2, reason))
        room -= len(violation)
        if room < 0:
            break
        found.append(violation)
    broken = wire.text(1, BAD_REQUEST) + wire.blob(2, b"".join(found))
    whole = wire.whole(1, status) + wire.text(2, shortened(message)) + wire.blob(3, broken)
    return encode(FIELD, b64encode(whole).rstrip(b"="))


def _place(row: int | None, column: str | None) -> str:
    """Return where in a request a fault is.

    >>> [_place(3, "age"), _place(None, "age"), _place(3, None)]
    ['age[3]', 'age', '[3]']
    """
    return (column or "") + ("" if row is None else f"[{row}]")


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
