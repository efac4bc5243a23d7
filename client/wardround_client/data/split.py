"""Which patients are held out: fixed for ever by the patient's key and the data set's name."""

import hashlib

from wardround.errors import BadInput
from wardround.study.contract import Label
from wardround_client.data.encoding import EncodedRecords

PURPOSE = b"wardround/1 held-out patients"


def is_held_out(patient_key: str, dataset: str, fraction: float) -> bool:
    """Say whether one patient belongs to the held-out part of `dataset`.

    A function of the key, the data set's name and the fraction alone: no other patient, no study
    and no order of the file changes it. So the two parts are disjoint sets of patients, the same
    in every study, and training releases and evaluation releases compose in parallel (McSherry
    2009, Theorem 4): each patient pays for one of the two, and the larger bounds both.

    The fraction is a threshold on a uniform number of the patient (the first 64 bits of SHA-256
    over purpose, name and key): a larger fraction keeps who was held out and adds patients. Those
    added ones have then been in both parts, once trained on and once evaluated, so parallel
    composition fails for them. Hence the ledger holds one fixed fraction for a data set, for ever.

    >>> is_held_out("patient-4711", "heart", 0.0001), is_held_out("patient-4711", "heart", 0.9999)
    (False, True)
    """
    name, key = dataset.encode(), patient_key.encode()
    message = b"".join(len(part).to_bytes(4, "big") + part for part in (PURPOSE, name, key))
    place = int.from_bytes(hashlib.sha256(message).digest()[:8], "big")
    return place < fraction * 2.0**64


def split(
    encoded: EncodedRecords, *, dataset: str, fraction: float
) -> tuple[EncodedRecords, EncodedRecords]:
    """Part records into (training, held out), all records of a patient on one side.

    Either side may be empty of a class or of patients: evaluation says NA there. Raises BadInput
    when `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise BadInput(f"held-out fraction: {fraction} came, a number between 0 and 1 is due")
    held_out = [is_held_out(key, dataset, fraction) for key in encoded.patients]
    train = [i for i, out in enumerate(held_out) if not out]
    return encoded.of_patients(train), encoded.of_patients([i for i, o in enumerate(held_out) if o])


def learned_from(train: EncodedRecords, label: Label) -> EncodedRecords:
    """Those of the training side that the study trains on: all, or whom no record calls strange.

    Each patient's own records decide, so that one patient more or less stays one.
    """
    if label.train_on == "everybody":
        return train
    spans = zip(train.offsets[:-1], train.offsets[1:], strict=True)
    normal = [i for i, (start, end) in enumerate(spans) if not train.labels[start:end].any()]
    return train.of_patients(normal)
