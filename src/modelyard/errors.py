"""Every error of Modelyard, on one page.

    ModelyardError                 exit code 1
    ├── UsageError                 exit code 2: the words on the command line are off
    │   ├── UnknownName            no such release, service or column
    │   ├── WayBackUnproven        in production, a change whose way back was not rehearsed
    │   └── AlreadyExists          would overwrite something
    ├── SpecError                  exit code 2: `system.yaml` is off
    │   └── SpecFaults             all faults of one spec at once
    ├── DataError                  exit code 2: the data cannot be used
    │   ├── Unreadable             missing, a directory, no permission, wrong encoding
    │   ├── EmptyData              no rows, or no columns
    │   ├── WrongFormat            not what its name or the spec says
    │   ├── MissingColumn          a column that the spec or contract names is not there
    │   ├── TooManyMalformed       more rows quarantined than the spec allows
    │   ├── TooLarge               more rows, columns or bytes than the spec allows
    │   ├── CannotSplit            too few rows, classes or groups for the parts asked for
    │   └── ContractBroken         rows that break the contract of a release
    ├── GateError                  a requirement stands in the way
    │   ├── RequirementNotMet      exit code 3
    │   └── RequirementInconclusive exit code 4
    ├── TrainError                 no candidate could be fitted
    │   ├── CandidateFailed        one candidate: crash, memory, time
    │   └── NotConvertible         it fits but cannot become ONNX exactly
    ├── BundleError                a bundle is not what it says
    │   ├── BundleAltered          a byte differs from what was sealed
    │   ├── BundleFormat           a version or file that this code cannot read
    │   └── ParityBroken           the bundle answers otherwise than the pipeline
    ├── StoreError                 the store cannot do what was asked
    │   ├── StoreConflict          someone else changed it first
    │   ├── StoreFormat            written by a newer version
    │   ├── QuotaExceeded          the disk quota is used up
    │   ├── BodyCollected          the release is known, its body was removed by a collection
    │   └── AuditError             the audit log cannot be written or was edited
    ├── ServiceError               the service cannot do what was asked
    │   ├── PortTaken              another process listens there
    │   ├── NotRunning             no such service answers
    │   ├── Overloaded             the queue is full
    │   ├── DeadlineExceeded       no answer in time
    │   ├── CannotRehearse         a drill that cannot be tried here
    │   └── EngineFailed           the model's process crashed, hung or answered nonsense
    └── MissingExtra               exit code 2: an optional library is not installed

A message says where, what was seen, what was wanted and what to do. Facts are attributes.
"""

from __future__ import annotations

from collections.abc import Sequence


class ModelyardError(Exception):
    """The root of everything Modelyard raises on purpose."""

    code = "modelyard"
    exit_code = 1


class UsageError(ModelyardError):
    """The call itself is wrong."""

    code = "usage"
    exit_code = 2


class UnknownName(UsageError):
    code = "usage.unknown_name"

    def __init__(self, kind: str, name: str, known: Sequence[str] = ()) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        tail = f" Known: {', '.join(sorted(known))}." if known else " There is none yet."
        super().__init__(f"There is no {kind} `{name}`.{tail}")


class WayBackUnproven(UsageError):
    code = "usage.way_back_unproven"


class AlreadyExists(UsageError):
    code = "usage.already_exists"


class SpecError(ModelyardError):
    code = "spec"
    exit_code = 2


class SpecFaults(SpecError):
    """All faults of one spec; each has `file`, `line`, `where`, `seen`, `wanted` in its text."""

    code = "spec.faults"

    def __init__(self, file: str, faults: Sequence[str]) -> None:
        self.file, self.faults = file, tuple(faults)
        count = len(self.faults)
        head = f"`{file}` has {count} fault{'' if count == 1 else 's'}:"
        super().__init__("\n".join([head, *(f"  {fault}" for fault in self.faults)]))


class DataError(ModelyardError):
    code = "data"
    exit_code = 2


class Unreadable(DataError):
    code = "data.unreadable"


class EmptyData(DataError):
    code = "data.empty"


class WrongFormat(DataError):
    code = "data.wrong_format"


class MissingColumn(DataError):
    code = "data.missing_column"

    def __init__(self, where: str, names: Sequence[str], known: Sequence[str]) -> None:
        self.where, self.names, self.known = where, tuple(names), tuple(known)
        wanted = ", ".join(f"`{name}`" for name in self.names)
        super().__init__(f"{where}: column {wanted} is not there. Columns seen: {', '.join(known)}.")


class TooManyMalformed(DataError):
    code = "data.too_many_malformed"


class TooLarge(DataError):
    code = "data.too_large"


class CannotSplit(DataError):
    code = "data.cannot_split"


class CourseUnreadable(DataError):
    code = "data.course_unreadable"


class ContractBroken(DataError):
    """Rows that break a contract; `faults` names row, column and reason of each."""

    code = "data.contract_broken"

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        shown = "; ".join(self.faults[:5])
        more = f" (and {len(self.faults) - 5} more)" if len(self.faults) > 5 else ""
        super().__init__(f"The rows break the contract: {shown}{more}.")


class GateError(ModelyardError):
    code = "gate"

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join([message, *(f"  {reason}" for reason in self.reasons)]))


class RequirementNotMet(GateError):
    code = "gate.requirement_not_met"
    exit_code = 3


class RequirementInconclusive(GateError):
    code = "gate.requirement_inconclusive"
    exit_code = 4


class TrainError(ModelyardError):
    code = "train"


class CandidateFailed(TrainError):
    code = "train.candidate_failed"


class NotConvertible(TrainError):
    code = "train.not_convertible"


class BundleError(ModelyardError):
    code = "bundle"


class BundleAltered(BundleError):
    code = "bundle.altered"


class BundleFormat(BundleError):
    code = "bundle.format"


class ParityBroken(BundleError):
    code = "bundle.parity_broken"


class StoreError(ModelyardError):
    code = "store"


class StoreConflict(StoreError):
    code = "store.conflict"


class StoreFormat(StoreError):
    code = "store.format"


class QuotaExceeded(StoreError):
    code = "store.quota_exceeded"


class BodyCollected(StoreError):
    code = "store.body_collected"


class AuditError(StoreError):
    code = "store.audit"


class ServiceError(ModelyardError):
    code = "service"


class PortTaken(ServiceError):
    code = "service.port_taken"
    exit_code = 2


class NotRunning(ServiceError):
    code = "service.not_running"
    exit_code = 2


class Overloaded(ServiceError):
    code = "service.overloaded"


class DeadlineExceeded(ServiceError):
    code = "service.deadline_exceeded"


class CannotRehearse(ServiceError):
    code = "service.cannot_rehearse"


class EngineFailed(ServiceError):
    code = "service.engine_failed"


class MissingExtra(ModelyardError):
    code = "missing_extra"
    exit_code = 2

    def __init__(self, library: str, extra: str) -> None:
        self.library, self.extra = library, extra
        super().__init__(
            f"`{library}` is not installed; it comes with the extra `{extra}`. "
            f"Install it: pip install -c constraints.txt 'modelyard[{extra}]'"
        )
