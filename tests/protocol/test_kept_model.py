"""The model that a hospital keeps at the end of a run, and what its log says of it."""

import numpy as np
import onnxruntime
import pytest
import torch
from tests.protocol.test_statistics_rounds import closed, write_many
from tests.support.decision_support import support_of
from tests.support.forgeries import VICTIM, honest, only, rewritten, sealed, set_to
from tests.support.hospitals import NAMES, RUN, Ward
from tests.support.memory_runs import Federation

from wardround.audit.verify import verify_bytes
from wardround.models.family import readings
from wardround.models.onnx_export import to_onnx, with_reading
from wardround_client.data.description import read_description
from wardround_client.explanation.explain import explain
from wardround_client.explanation.importance import importance
from wardround_client.prediction.predict import predict

SCALES = {"epsilon": 3.0, "standardise": True}


@pytest.fixture(scope="module", params=[None, SCALES], ids=["as declared", "standardised"])
def ended(request, tmp_path_factory):
    """A whole run over three hospitals in memory, with and without released scales."""
    ward = Ward.make(tmp_path_factory.mktemp("ward") / "ward")
    for seed, name in enumerate(NAMES):
        write_many(ward[name].data / "patients.csv", seed)
    more = {} if request.param is None else {"statistics": request.param}
    federation = Federation(ward, **more)
    run = federation.run()
    model, session = run.train_and_evaluate()
    records = ward["lakeside"].hospital.sessions[RUN].records
    _, verdicts = closed(federation, run, model, session)
    assert verdicts.ok, verdicts.lines()
    yield ward, federation, records, model
    ward.close()


def test_the_log_names_the_model_that_was_kept(ended):
    ward, federation, _, _ = ended
    (last,) = federation.entries("run-closed")
    kind, body = ward["lakeside"].log_entries(federation.study)[-1]
    assert (kind, body["model"]) == ("run-ended", last["model"])
    assert support_of(ward["lakeside"]).standing.model == last["model"]


def test_held_out_patients_are_scored_as_in_the_run(ended):
    ward, federation, records, _ = ended
    support = support_of(ward["lakeside"])
    assert torch.allclose(support.held_out.features, records.held_out.features)
    assert torch.equal(support.held_out.labels, records.held_out.labels)
    scaled = bool(support.standing.released.scales)
    assert scaled == (federation.study.statistics is not None)
    network = support.standing.released.network
    due = readings(network, records.held_out.features, federation.study)
    np.testing.assert_allclose(support.calibration.outcomes.outputs, due, atol=1e-6)


def test_a_new_patient_is_scaled_as_the_model_was_trained(ended, tmp_path):
    ward, federation, records, _ = ended
    support, hospital = support_of(ward["lakeside"]), ward["lakeside"]
    found = predict(support, read_description(hospital.description), hospital.data)
    by_key = {answer.patient: answer for answer in found.answers}
    said = [by_key[key].channels[0].score for key in support.held_out_keys[:20]]
    network = support.standing.released.network
    due = readings(network, records.held_out.features[:20], federation.study)
    np.testing.assert_allclose(said, due[:, 0], atol=1e-6)
    key = support.held_out_keys[0]
    explained = explain(support, read_description(hospital.description), hospital.data, patient=key)
    assert explained.parts.score == pytest.approx(said[0], abs=1e-6)
    assert abs(explained.parts.gap) < 1e-3
    assert {column.column for column in importance(support).columns} == {"age", "male"}


def test_an_onnx_file_takes_the_contracts_features_and_scales_them_itself(ended):
    ward, federation, _, _ = ended
    released = support_of(ward["lakeside"]).standing.released
    network = with_reading(released.network, federation.study, released.scales)
    data = to_onnx(network, federation.study, {"run": released.run})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    support = support_of(ward["lakeside"])
    raw = 2.0 * torch.rand(9, *federation.study.contract.input_shape()) - 1.0
    (channels,) = session.run(["channels"], {"records": raw.numpy()})
    due = readings(released.network, support.scaled_features(raw), federation.study)
    np.testing.assert_allclose(channels, due, atol=1e-5)


def test_a_hospital_that_kept_another_model_than_the_run_ended_with_is_found():
    fed = honest().fork()
    rewritten(fed.hospitals[VICTIM], "run-ended", set_to(model="0" * 64))
    failure = only(verify_bytes(sealed(fed.parts())), "recomputed", "model-differs")
    assert "not the one that the run ended with" in failure.reason
    fed = honest().fork()
    model = [e for e in fed.coordinator.entries if e.type == "run-closed"][-1].body["model"]
    rewritten(fed.hospitals[VICTIM], "run-ended", set_to(model=model))
    assert verify_bytes(sealed(fed.parts())).ok
