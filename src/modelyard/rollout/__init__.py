"""Taking a release towards callers and back: judged by what it was built for, with failures rehearsed before.

What was counted of each release, the requirements, the policy and the state of the tests enter `decide`; a decision
with its reasons and the next state leave. Drills act on a service through ports that `app` wires. The room must never
start a process, read a store, or send a release forward on a requirement that failed or that nobody could judge.
"""

from modelyard.rollout.claims import Claim, claims
from modelyard.rollout.decide import decide
from modelyard.rollout.plan import Projection, plan
from modelyard.rollout.state import StepState, begin, next_step, shares

__all__ = ["Claim", "Projection", "StepState", "begin", "claims", "decide", "next_step", "plan", "shares"]
