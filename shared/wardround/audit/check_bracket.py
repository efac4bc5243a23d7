"""Recomputed, once more: the printed epsilons, between the ends that other accountants give.

That report.json follows from the evidence says `check_report`; but writer and reader use the same
accountant. The lower end here is computed without it, the upper one is RDP's.
"""

import math
from collections.abc import Iterator
from functools import lru_cache

from wardround.audit.attempts import attempts_of
from wardround.audit.bundle import REPORT
from wardround.audit.derive import charges_of, releases_by_hospital
from wardround.audit.evidence import Evidence
from wardround.audit.guarantee import Charge, rounded_up
from wardround.audit.verdicts import Failure
from wardround.canonical import Json
from wardround.privacy.bracket import Bracket, epsilon_bracket
from wardround.privacy.mechanism import Exact, SampledGaussian

TOLERANCE = 2e-4


def check_brackets(evidence: Evidence, report: Json) -> Iterator[Failure]:
    """No printed epsilon is below what no epsilon of these releases can be, or above RDP's.

    A report that prints none, or is no report, is `check_report`'s to name.
    """
    delta, attempts = evidence.study.privacy.delta, attempts_of(evidence)
    if delta is None:
        return
    charges = charges_of(evidence, attempts, releases_by_hospital(evidence, attempts))
    brackets = {name: bracket_of(charge, delta) for name, charge in charges.items()}
    known = {name: found for name, found in brackets.items() if found is not None}
    for name, (path, printed) in _printed(report).items():
        if name is None and known:
            yield from _outside(path, printed, _worst(list(known.values())))
        elif name in known:
            yield from _outside(path, printed, known[name])


def bracket_of(charge: Charge, delta: float) -> Bracket | None:
    """The bracket of a hospital's worse-off group; None where an update left without noise."""
    if any(isinstance(release, Exact) for release in charge.training):
        return None
    groups = [(*group, *charge.statistics) for group in (charge.training, charge.evaluation)]
    noised = [
        tuple(sorted((r for r in group if isinstance(r, SampledGaussian)), key=repr))
        for group in groups
    ]
    return _worst([_bracket(group, delta) for group in noised])


@lru_cache(maxsize=256)
def _bracket(releases: tuple[SampledGaussian, ...], delta: float) -> Bracket:
    # Hospitals of one study mostly share their releases: hence the cache.
    return epsilon_bracket(releases, delta)


def _worst(brackets: list[Bracket]) -> Bracket:
    return Bracket(*(max(ends) for ends in zip(*brackets, strict=True)))


def _outside(path: str, printed: float, bracket: Bracket) -> Iterator[Failure]:
    if not math.isfinite(bracket.high) or printed > rounded_up(bracket.high) + TOLERANCE:
        reason = f"{path} is {printed:g}, RDP bounds it by {bracket.high:.4f}"
        yield Failure("epsilon-outside-bracket", REPORT, None, reason)
    if printed < bracket.low - TOLERANCE:
        reason = f"{path} is {printed:g}, no epsilon below {bracket.low:.4f} holds"
        yield Failure("epsilon-outside-bracket", REPORT, None, reason)


def _printed(report: Json) -> dict[str | None, tuple[str, float]]:
    """The epsilons of the report: each hospital's, and under None the one on the label."""
    guarantee = report.get("guarantee")
    if not isinstance(guarantee, dict):
        return {}
    rows = guarantee.get("hospitals")
    found: dict[str | None, tuple[str, object]]
    found = {None: ("guarantee.epsilon", guarantee.get("epsilon"))}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and isinstance(row.get("hospital"), str):
            found[row["hospital"]] = (f"epsilon of {row['hospital']}", row.get("epsilon"))
    values = {name: (path, _value(figure)) for name, (path, figure) in found.items()}
    return {name: (path, value) for name, (path, value) in values.items() if value is not None}


def _value(figure: object) -> float | None:
    value = figure.get("value") if isinstance(figure, dict) else None
    return float(value) if isinstance(value, int | float) else None
