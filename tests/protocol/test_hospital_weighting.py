"""Weights and losses of real hospitals ride in the masked vector: only their sums are seen."""

import numpy as np
import pytest
from tests.support.attempts import Attempt
from tests.support.hospitals import NAMES, Ward

from wardround.masking.quantise import LANE
from wardround.protocol.messages import Update
from wardround.protocol.weighting import mean_update
from wardround_client import round as hospital_round

WEIGHTED = {
    "privacy__mechanism": "none",
    "training__weighting": "patients",
    "training__weight_unit": 5,
    "training__weight_most": 8,
}


@pytest.fixture
def seen(monkeypatch):
    """Each hospital's update, patients and loss, before its weight."""
    kept, real = [], hospital_round.weigh

    def watched(update, *, patients, loss, study, spec):
        kept.append((update.values, patients, loss))
        return real(update, patients=patients, loss=loss, study=study, spec=spec)

    monkeypatch.setattr(hospital_round, "weigh", watched)
    return kept


def test_a_hospital_with_more_patients_moves_the_mean_further(tmp_path, seen):
    ward = Ward.make(tmp_path)
    small = ward[NAMES[0]].data / "patients.csv"
    small.write_text("\n".join(small.read_text().splitlines()[:15]))
    talk = ward.talk(**WEIGHTED).open()
    attempt = Attempt(talk).upload()
    total = np.array(attempt.opened(*attempt.signed()), dtype=LANE)
    mean = mean_update(total, talk.study, attempt.spec, hospitals=3)
    weights = [round(patients / 5) for _, patients, _ in seen]
    assert len(set(weights)) > 1
    assert mean.weight == sum(weights)
    due = np.average([values for values, _, _ in seen], axis=0, weights=weights)
    np.testing.assert_allclose(mean.values, due, atol=1e-6)
    equal = np.mean([values for values, _, _ in seen], axis=0)
    assert np.abs(mean.values - equal).max() > 1e-4
    losses = [loss for _, _, loss in seen]
    # The public start of a logistic regression knows nothing: its loss is about ln 2.
    assert mean.loss == pytest.approx(np.average(losses, weights=weights), abs=1e-3)
    assert 0.4 < mean.loss < 1.2
    for update, _ in attempt.updates.values():
        assert isinstance(update, Update)
        assert set(update.header) == {
            "hospital",
            "transcript",
            "update_digest",
            "self_commitment",
            "pairs_root",
        }
        assert not {"loss", "weight", "patients"} & set(update.engine)
    ward.close()
