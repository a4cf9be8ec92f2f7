"""Judging a release in production by the requirements it was built for.

What was counted of each release, the requirements, the policy and the state of the tests enter; a decision with its
reasons and the next state leave. The room is pure: it must never read a clock, ask a service or change traffic, and
never send a release forward on a requirement that failed or that nobody could judge.
"""

from modelyard.rollout.claims import Claim, claims
from modelyard.rollout.decide import decide
from modelyard.rollout.plan import Projection, plan
from modelyard.rollout.state import StepState, begin, next_step, shares

__all__ = ["Claim", "Projection", "StepState", "begin", "claims", "decide", "next_step", "plan", "shares"]
