"""What the model rests on: how much of its headline metric is lost when one column is shuffled.

Each hospital shuffles the column among its own held-out patients, by its own secret randomness, and
counts the scores that come out. (Breiman 2001, section 10; Fisher, Rudin and Dominici 2019)
"""

import math
from dataclasses import asdict, replace

from wardround.canonical import Json
from wardround.evaluation.apart import Apart
from wardround.evaluation.discrimination import auroc_standard_error, unbounded_auroc
from wardround.evaluation.histograms import Counts, EvaluationCounts
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.metrics import Estimate, rounded
from wardround.evaluation.propagation import noise_spread
from wardround.evaluation.subgroups import auroc_of

SQUARED_SENSITIVITY = 5
"""The most by which one patient moves one table of one shuffled column, squared (L2).

A patient's column goes to one other patient. Pair each order of n - 1 patients with the n orders
that come from it by putting the n-th in at a place: then exactly one other patient's score differs
(it gets the column of whoever was replaced), and the n-th is counted or not. So at most one cell
loses two and another gains one: 2^2 + 1^2. Each order is as likely on both sides, and a mixture
leaks no more than its worst part (joint convexity of the hockey-stick divergence), provided that
nobody else knows the order. Where a patient is in several tables, one for each class, label or
target, each of them moves by so much at most.
"""


def column_lost(
    column: str, whole: EvaluationCounts, shuffled: EvaluationCounts, *, cell_noise_sd: float
) -> Json:
    """The AUROC with `column` shuffled, and how much was lost; None where a class is missing.

    The same patients are in both counts, so the sampling error of the loss is at most the sum of
    the two errors (triangle inequality): its interval is rather too wide.
    """
    before, after = auroc_of(whole.histogram), auroc_of(shuffled.histogram)
    if before is None or after is None:
        return {"column": column, "auroc": None, "lost": None}
    errors = [auroc_standard_error(counts.histogram) for counts in (whole, shuffled)]
    lost = Estimate(value=before - after)
    if errors[0] is not None and errors[1] is not None:
        half = Z_95 * (errors[0] + errors[1])
        lost = replace(lost, low=lost.value - half, high=lost.value + half)
    if cell_noise_sd:
        spreads = [
            noise_spread(unbounded_auroc, counts.histogram, cell_noise_sd)
            for counts in (whole, shuffled)
        ]
        known = [spread for spread in spreads if spread is not None]
        noise = math.hypot(*known) if len(known) == len(spreads) else 1.0
        lost = replace(lost, noise_low=lost.value - noise, noise_high=lost.value + noise)
    return {"column": column, "auroc": rounded(after), "lost": rounded(asdict(lost))}


def metric_lost(
    apart: Apart, column: str, whole: Counts, shuffled: Counts, *, cell_noise_sd: float
) -> Json:
    """`column_lost` for any label: the headline metric with `column` shuffled, and what was lost.

    Lost is more where the model does worse without the column, also of a metric that counts errors.
    """
    before, after = (apart.headline(lanes, cell_noise_sd) for lanes in (whole, shuffled))
    named: Json = {"column": column, "metric": apart.compared.name}
    if before is None or after is None:
        return named | {"value": None, "lost": None}
    lost = Estimate(value=apart.compared.worse_by(before.value, after.value))
    if before.sampling is not None and after.sampling is not None:
        half = Z_95 * (before.sampling + after.sampling)
        lost = replace(lost, low=lost.value - half, high=lost.value + half)
    if cell_noise_sd:
        known = before.noise is not None and after.noise is not None
        noise = Z_95 * math.hypot(before.noise or 0.0, after.noise or 0.0) if known else 1.0
        lost = replace(lost, noise_low=lost.value - noise, noise_high=lost.value + noise)
    return named | {"value": rounded(after.value), "lost": rounded(asdict(lost))}
