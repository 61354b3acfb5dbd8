"""CMA-ES (Hansen 2016, arXiv:1604.00772) as a sampler without a state of its own.

Optuna's own sampler keeps the optimizer in the study as a pickle, which is never opened here. This one makes it anew
for every proposal: it tells the trials that have finished, a generation after another, to a fresh optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cmaes import CMA
from optuna import Study
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

_SIGMA = 1 / 6
"""Of the first generation, where an axis is 1 long: as Optuna has it."""
Ends = Mapping[str, tuple[float, float, bool]]
"""Name of an axis -> its ends, and whether it is of logarithms."""


class CmaSampler(BaseSampler):
    """Proposes numbers by CMA-ES; choices, and what is there only for some of them, at random."""

    def __init__(self, seed: int, startup: int, ends: Ends) -> None:
        self._seed, self._startup = seed, startup
        self._ends = ends
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The numeric axes that every finished trial has."""
        done = _done(study)
        if len(done) < self._startup:
            return {}
        shared = [name for name in self._ends if all(name in other.params for other in done)]
        found = {name: done[-1].distributions[name] for name in sorted(shared)}
        return found if len(found) > 1 else {}  # one alone has no covariance

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point of the generation that the trials so far lead to."""
        if not search_space:
            return {}
        names = list(search_space)
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        rng = np.random.default_rng(self._seed)
        optimizer = CMA(
            mean=np.full(len(names), 0.5),
            sigma=_SIGMA,
            bounds=np.tile([0.0, 1.0], (len(names), 1)),
            seed=int(rng.integers(2**31)),
        )
        done = _done(study)
        size = optimizer.population_size
        for first in range(0, len(done) - size + 1, size):
            optimizer.tell([(self._inside(names, other), sign * float(other.value or 0.0))
                            for other in done[first : first + size]])  # fmt: skip
        return {
            name: self._outside(name, search_space[name], place)
            for name, place in zip(names, optimizer.ask(), strict=True)
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _inside(self, names: Sequence[str], trial: FrozenTrial) -> Any:
        """A trial's numbers on axes from 0 to 1."""
        places = []
        for name in names:
            low, high, log = self._ends[name]
            value = trial.params[name]
            low, high, value = (math.log(low), math.log(high), math.log(value)) if log else (low, high, value)
            places.append((value - low) / (high - low))
        return np.array(places)

    def _outside(self, name: str, distribution: BaseDistribution, place: float) -> float | int:
        """The number at a place of an axis from 0 to 1."""
        low, high, log = self._ends[name]
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        value = low * (high / low) ** place if log else low + (high - low) * place
        value = min(max(value, low), high)
        return round(value) if isinstance(distribution, IntDistribution) else float(value)


def _done(study: Study) -> list[FrozenTrial]:
    """Finished trials that lie in the space, by number."""
    found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in found if trial.params]
