"""One column of the held-out patients, shuffled among them: what importance is measured by."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from wardround.errors import BadInput
from wardround.randomness import Randomness, words
from wardround_client.training.plan import PatientRecords

Order = npt.NDArray[np.int64]


def random_order(patients: int, randomness: Randomness) -> Order:
    """An order of the patients, each as likely: that of as many random numbers of 64 bits.

    Two of them are equal once in 2^64 pairs. Nobody else may know it (`evaluation.shuffled`).
    """
    return np.argsort(words(patients, randomness), kind="stable").astype(np.int64)


def shuffled(records: PatientRecords, column: slice, order: Order) -> PatientRecords:
    """Patient p with the column of patient `order[p]`, all its features and steps together.

    Record k of p gets it from record k of the other, counted anew from its first where it has
    fewer. So what becomes of p depends on p and on that one other patient alone. Raises BadInput
    for an order of other patients.
    """
    counts = np.diff(records.offsets)
    if not np.array_equal(np.sort(order), np.arange(len(counts))):
        raise BadInput(f"shuffling: an order of {len(counts)} patients was due")
    patient = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(patient)) - records.offsets[:-1][patient]
    other = order[patient]
    source = torch.from_numpy(records.offsets[:-1][other] + number % counts[other])
    features = records.features.clone()
    features[..., column] = records.features[source][..., column]
    return replace(records, features=features)
