"""Who takes part in a step: Poisson over patients, then a bounded chunk of each one's records."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.randomness import Randomness, uniform, words

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The records of one step, grouped by patient; `patient_of_record` counts from 0 upwards."""

    records: Indices = field(repr=False)
    patient_of_record: Indices = field(repr=False)
    patients: int = field(repr=False)


def sample_patients(patients: int, *, rate: float, randomness: Randomness) -> Indices:
    """Draw each patient independently with probability `rate`: the sampler the accountant assumes.

    The number drawn is itself random and private, and zero is a valid draw. `rate` is the
    study's public constant, never a function of `patients`. (Mironov et al. 2019)
    """
    if patients < 0 or not 0.0 < rate <= 1.0:
        raise BadInput(f"sampling: {patients} patients at rate {rate}; above 0 up to 1 was due")
    return np.flatnonzero(uniform(patients, randomness) < rate).astype(np.int64)


def at_most(sampled: Indices, most: int, *, randomness: Randomness) -> Indices:
    """A uniformly random subset of `most` of those sampled; all of them when they are not more.

    No sampler with a ceiling is Poisson. What it differs by is how often it cuts, and that is
    accounted as the plan's `truncation`.

    >>> from wardround.randomness import system_randomness
    >>> at_most(np.array([2, 3, 5]), 3, randomness=system_randomness).tolist()
    [2, 3, 5]
    """
    if len(sampled) <= most:
        return sampled
    order = np.argsort(words(len(sampled), randomness), kind="stable")
    return np.sort(sampled[order[:most]])


def choose_records(
    offsets: Indices, sampled: Indices, *, most: int, randomness: Randomness
) -> Batch:
    """Take at most `most` consecutive records of each sampled patient, from a random start.

    Patient p has the records `offsets[p]` up to `offsets[p + 1]`. The chunk bounds the work of a
    step, not the guarantee: the clip per patient does that whatever the records are.

    >>> from wardround.randomness import system_randomness
    >>> batch = choose_records(
    ...     np.array([0, 2, 9]), np.array([1]), most=3, randomness=system_randomness
    ... )
    >>> len(batch.records), batch.patients
    (3, 1)
    """
    if most < 1:
        raise BadInput(f"records per patient: {most} came, 1 or more was due")
    counts = offsets[sampled + 1] - offsets[sampled]
    taken = np.minimum(counts, most)
    spare = counts - taken
    shift = np.floor(uniform(len(sampled), randomness) * (spare + 1)).astype(np.int64)
    starts = offsets[sampled] + np.minimum(shift, spare)
    patient_of_record = np.repeat(np.arange(len(sampled), dtype=np.int64), taken)
    within = np.arange(taken.sum(), dtype=np.int64) - np.repeat(np.cumsum(taken) - taken, taken)
    return Batch(
        records=starts[patient_of_record] + within,
        patient_of_record=patient_of_record,
        patients=len(sampled),
    )
