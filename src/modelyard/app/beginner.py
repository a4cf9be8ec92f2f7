"""A process that begins one rollout for the management address, so that a supervisor stays as small as it is."""

from __future__ import annotations

import sys

from modelyard.app.managed import COMMAND_NAME, BeginnerJob, Refusal
from modelyard.app.records import Records
from modelyard.app.rollout import RolloutVerbs
from modelyard.core.codec import decode, encode
from modelyard.errors import ModelyardError


def main() -> None:
    """Begin the rollout described on standard input; what came of it, or why nothing did, goes on standard output."""
    job = decode(sys.stdin.buffer.read(), BeginnerJob)
    verbs = RolloutVerbs(Records(job.settings, command=COMMAND_NAME))
    try:
        sys.stdout.buffer.write(encode(verbs.begin(job.releases, job.strategy)))
    except ModelyardError as fault:
        refusal = Refusal(error=fault.code, message=str(fault), exit_code=fault.exit_code)
        sys.stdout.buffer.write(encode(refusal))
        sys.exit(fault.exit_code)
