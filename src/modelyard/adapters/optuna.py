"""Optuna behind the Sampler port: a tree-structured Parzen estimator over the trials handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from modelyard.core.candidate import ParamValue
from modelyard.core.space import Choice, Dimension, Fixed, Range, Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

STARTUP = 5  # random trials of a candidate before the estimator takes over


class TpeSampler:
    """Proposes by TPE; holds no state, so a resumed search proposes what an unbroken one would."""

    def propose(
        self, space: Space, tried: Sequence[tuple[Mapping[str, ParamValue], float]], *, seed: int
    ) -> dict[str, ParamValue]:
        free = {name: _distribution(d) for name, d in sorted(space.items()) if not isinstance(d, Fixed)}
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(
            [
                create_trial(value=value, params={name: params[name] for name in free}, distributions=free)
                for params, value in tried
            ]
        )
        proposed = study.ask(free).params
        return {name: d.value if isinstance(d, Fixed) else proposed[name] for name, d in space.items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    assert isinstance(dimension, Range)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
