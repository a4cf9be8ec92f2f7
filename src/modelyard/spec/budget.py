"""`budget`: what the search for a model may spend."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from modelyard.core.space import Budget
from modelyard.spec.faults import Fault
from modelyard.spec.section import Section
from modelyard.spec.world import World

DEFAULT_SECONDS = 60.0


class BudgetSpec(Section):
    """What the search for a model may spend, in seconds or in trials, and the bounds of each trial."""

    seconds: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="Time for the whole search; 60 where neither seconds nor trials are given.",
    )
    trials: int | None = Field(
        default=None, ge=1, le=100_000, description="Number of fits for the whole search, instead of seconds."
    )
    trial_timeout_s: float = Field(default=120.0, gt=0, le=86_400, description="Longest time of one fit, in seconds.")
    memory_mb: int = Field(default=4096, ge=256, description="Most memory of one fit, in millions of bytes.")
    threads: int = Field(
        default=2, ge=1, description="Fits that run side by side, one thread each; at most the machine's cores."
    )

    def in_effect(self) -> Budget:
        """Return the budget with either seconds or trials set."""
        return Budget(
            trials=self.trials,
            seconds=DEFAULT_SECONDS if self.trials is None and self.seconds is None else self.seconds,
            trial_timeout_s=self.trial_timeout_s,
            memory_mb=self.memory_mb,
            threads=self.threads,
        )


def check_budget(budget: BudgetSpec, world: World) -> Iterator[Fault]:
    """Yield what does not go together, and what asks for more than the machine has."""
    if budget.seconds is not None and budget.trials is not None:
        yield Fault(
            place=("budget", "trials"),
            seen=f"{budget.trials} trials beside {budget.seconds:g} seconds",
            wanted="one of `seconds` and `trials`",
            reads=(("budget", "seconds"),),
        )
    for name, asked, there, unit in (
        ("threads", budget.threads, world.cores, "cores"),
        ("memory_mb", budget.memory_mb, world.memory_mb, "MB"),
    ):
        if asked > there:
            default = "" if name in budget.model_fields_set else " (the default)"
            yield Fault(
                place=("budget", name), seen=f"{asked}{default}", wanted=f"at most {there}, the {unit} of this machine"
            )
