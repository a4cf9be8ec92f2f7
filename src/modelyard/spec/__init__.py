"""What people write of a system, as types: `system.yaml` in, a frozen spec with lines and digest out, or all faults.

A file enters, or the wish for a new one; a `LoadedSpec` leaves, its requirements, candidates and
budget as the records of `core`, its JSON Schema, its explanation and its documentation. The room must
never read the rows of the data, guess at what is missing, change a value silently or stop at the
first fault.
"""

from modelyard.spec.against_data import check_classes, check_columns
from modelyard.spec.document import document, write_docs
from modelyard.spec.explain import explain
from modelyard.spec.init import SuggestedColumn, Suggestions, starter
from modelyard.spec.load import LoadedSpec, load
from modelyard.spec.schema import schema
from modelyard.spec.system import System, reopen

__all__ = [
    "LoadedSpec",
    "SuggestedColumn",
    "Suggestions",
    "System",
    "check_classes",
    "check_columns",
    "document",
    "explain",
    "load",
    "reopen",
    "schema",
    "starter",
    "write_docs",
]
