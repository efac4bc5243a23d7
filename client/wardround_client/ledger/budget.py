"""What the releases of a dataset add up to, and whether a plan still fits. Pure functions."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from wardround.errors import RefusedByBudget
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.mechanism import Exact, SampledGaussian
from wardround_client.ledger.releases import Purpose, Release

Gaussians = Sequence[SampledGaussian]

# Search for the plan that fits: noise factors up to 2^16, to a thousandth.
_MOST_DOUBLINGS = 16
_FACTOR_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpent:
    """One line of `budget history`: a run, and the dataset's epsilon once it was charged.

    The order is that of the reservations. `clock_went_back`: one of them bears an earlier time
    than the one before it, so the hospital's clock was set back; epsilon does not depend on it.
    """

    study_digest: str
    run: str
    first_reserved_at: str
    last_reserved_at: str
    releases: int
    never_sent: int
    exact: int
    epsilon_of_run: float
    epsilon_after: float
    clock_went_back: bool


def epsilon_of(
    releases: Iterable[Release],
    *,
    delta: float,
    training: Gaussians = (),
    evaluation: Gaussians = (),
    statistics: Gaussians = (),
    split: str | None = None,
) -> float:
    """Epsilon of all noised releases for the worst-off patient, with planned ones on top.

    A patient is a training or a held-out patient, for ever, so the two groups compose in
    parallel: the larger epsilon counts. Statistics touch both groups. This is sound only while
    every release, and the planned `split`, is the same split of the patients; once two differ,
    all is added up.
    """
    trained, held_out = [*training], [*evaluation]
    both: list[SampledGaussian] = [*statistics]
    splits = set() if split is None else {split}
    for release in releases:
        splits.add(release.split)
        charged = release.charged
        if isinstance(charged, Exact):
            continue
        group = {Purpose.TRAIN: trained, Purpose.EVALUATE: held_out}.get(release.purpose, both)
        group.append(charged)
    if len(splits) > 1:
        return epsilon_spent([*trained, *held_out, *both], delta=delta)
    return max(
        epsilon_spent([*trained, *both], delta=delta),
        epsilon_spent([*held_out, *both], delta=delta),
    )


def check_fits(
    releases: Sequence[Release],
    training: Gaussians,
    evaluation: Gaussians,
    *,
    statistics: Gaussians = (),
    split: str,
    budget_epsilon: float,
    delta: float,
) -> float:
    """Return the epsilon of the dataset once the plan is done; raise when it is over the budget.

    RefusedByBudget carries the epsilon that would fit for the training part (for the evaluation
    where nothing is trained, for statistics where there is neither): the same plan calibrated
    to it ends within the budget.
    """
    changed = next((part for part in (training, evaluation) if part), statistics)

    def after(factor: float) -> float:
        parts = [
            _louder(part, factor) if part is changed else part
            for part in (training, evaluation, statistics)
        ]
        return epsilon_of(
            releases,
            delta=delta,
            training=parts[0],
            evaluation=parts[1],
            statistics=parts[2],
            split=split,
        )

    planned = after(1.0)
    if planned <= budget_epsilon:
        return planned
    spent = epsilon_of(releases, delta=delta, split=split)
    factor = _factor_that_fits(after, budget_epsilon)
    alone = epsilon_spent(_louder(changed, factor), delta=delta) if factor else 0.0
    fits = math.floor(alone * 1000.0) / 1000.0
    raise RefusedByBudget(
        f"budget: the dataset has spent epsilon {spent:.3f} of {budget_epsilon:g}, this run "
        f"would take it to {planned:.3f}; a run of epsilon {fits:.3f} would fit",
        epsilon_that_fits=fits,
    )


def runs(releases: Sequence[Release], *, delta: float) -> tuple[RunSpent, ...]:
    """Group the releases by run, oldest first, with the epsilon after each."""
    names = list(dict.fromkeys((release.study_digest, release.run) for release in releases))
    lines: list[RunSpent] = []
    so_far: list[Release] = []
    backward = _reserved_before_the_last(releases)
    for study_digest, run in names:
        own = [r for r in releases if (r.study_digest, r.run) == (study_digest, run)]
        so_far += own
        lines.append(
            RunSpent(
                study_digest=study_digest,
                run=run,
                first_reserved_at=own[0].reserved_at,
                last_reserved_at=own[-1].reserved_at,
                releases=len(own),
                never_sent=sum(release.sent_at is None for release in own),
                exact=sum(isinstance(release.charged, Exact) for release in own),
                epsilon_of_run=epsilon_of(own, delta=delta),
                epsilon_after=epsilon_of(so_far, delta=delta),
                clock_went_back=any(release.id in backward for release in own),
            )
        )
    return tuple(lines)


def _reserved_before_the_last(releases: Sequence[Release]) -> set[str]:
    return {
        after.id for before, after in pairwise(releases) if after.reserved_at < before.reserved_at
    }


def _factor_that_fits(after: Callable[[float], float], budget_epsilon: float) -> float:
    """The least noise factor above 1 that fits, to a thousandth; 0.0 where none does."""
    enough = 2.0**_MOST_DOUBLINGS
    if after(enough) > budget_epsilon:
        return 0.0
    enough = 2.0
    while after(enough) > budget_epsilon:
        enough *= 2.0
    short = enough / 2.0
    while enough / short > 1.0 + _FACTOR_TOLERANCE:
        middle = math.sqrt(enough * short)
        if after(middle) <= budget_epsilon:
            enough = middle
        else:
            short = middle
    return enough


def _louder(plan: Gaussians, factor: float) -> Gaussians:
    return [
        replace(release, noise_multiplier=release.noise_multiplier * factor) for release in plan
    ]
