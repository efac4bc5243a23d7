"""From records to patients: one truth and one output each, the mean over the patient's records."""

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.evaluation.histograms import Scores
from wardround.evaluation.layout import Outcomes
from wardround.study.contract import Label, LabelKind


def outcomes_of(
    label: Label, offsets: npt.NDArray[np.int64], labels: npt.ArrayLike, outputs: Scores
) -> Outcomes:
    """Held-out records sorted by patient -> one row a patient.

    Patient p has the records `offsets[p]` up to `offsets[p + 1]`. `labels` [records, ...] are as a
    hospital encodes them, `outputs` [records, channels] lie in [0, 1]. A number is the mean over
    the records that have it, and becomes a place in [0, 1] of its range. Any other label is one
    per patient: raises BadInput, in counts, when a patient's records disagree.
    """
    truth = np.asarray(labels, dtype=np.float64)
    values = np.asarray(outputs, dtype=np.float64)
    if len(truth) != len(values) or (len(offsets) and int(offsets[-1]) != len(truth)):
        raise BadInput("evaluation: patients, labels and outputs differ in number")
    patients = max(len(offsets) - 1, 0)
    # A mean of ones must not be carried past one by rounding.
    means = np.clip(_means(values, offsets, patients), 0.0, 1.0)
    if label.numbers:
        return Outcomes(np.clip((_means(truth, offsets, patients) + 1.0) / 2.0, 0.0, 1.0), means)
    return Outcomes(_one_each(truth, offsets, patients, label), means)


def _means(values: Scores, offsets: npt.NDArray[np.int64], patients: int) -> Scores:
    known = ~np.isnan(values)
    of_record = np.repeat(np.arange(patients), np.diff(offsets)) if patients else np.zeros(0, int)
    sums = np.zeros((patients, values.shape[1]))
    counts = np.zeros((patients, values.shape[1]))
    np.add.at(sums, of_record, np.where(known, values, 0.0))
    np.add.at(counts, of_record, known)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _one_each(truth: Scores, offsets: npt.NDArray[np.int64], patients: int, label: Label) -> Scores:
    if not patients:
        return truth[:0]
    firsts = truth[offsets[:-1]]
    again = np.repeat(firsts, np.diff(offsets), axis=0)
    differs = (truth != again) & ~(np.isnan(truth) & np.isnan(again))
    of_record = np.repeat(np.arange(patients), np.diff(offsets))
    unsure = len(np.unique(of_record[differs.reshape(len(truth), -1).any(axis=1)]))
    if unsure and label.kind is LabelKind.BINARY:
        raise BadInput("evaluation: a patient has records with both labels")
    if unsure:
        raise BadInput(f"evaluation: {unsure} patients have records with different labels")
    return firsts
