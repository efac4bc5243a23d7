"""`wardround audit test` at a hospital: which files it takes, what it says, what it writes."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from tests.support.attacked_study import generated, seeded
from tests.support.federation_evidence import RUN as RUN_OF_EVIDENCE
from tests.support.forgeries import VICTIM, honest, sealed
from tests.support.hospitals import NAMES, RUN, Ward

from wardround.audit.bodies import HOSPITAL_TYPES, AttackTested
from wardround.audit.body_fields import read_body
from wardround.audit.verify import verify_bytes
from wardround.cli import main
from wardround.cli.main import run
from wardround.errors import BadInput
from wardround.models.networks import build, parameters_of
from wardround.privacy.mechanism import Exact
from wardround_client.approval import approved_study
from wardround_client.attacks.at_hospital import attack
from wardround_client.attacks.inversion import first_layer, has_closed_form, invert, resemblance
from wardround_client.attacks.membership import confidence, loss_score, mean_records
from wardround_client.attacks.released import own_copy, read_released
from wardround_client.attacks.subjects import choose_subjects, of_patients
from wardround_client.ledger import Purpose
from wardround_client.records import StudyRecords, load_records

METADATA = {"run": RUN}


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path / "ward", NAMES)
    yield ward
    ward.close()


@pytest.fixture
def study(ward):
    study = ward.study()
    ward["lakeside"].approve(ward.signed(study))
    return study


def named(study):
    return {name: value.detach().numpy() for name, value in build(study).named_parameters()}


def written(folder, study, tensors=None, **metadata):
    path = folder / "model.safetensors"
    fields = {"study_digest": study.digest, **METADATA, **metadata}
    path.write_bytes(save(named(study) if tensors is None else tensors, metadata=fields))
    return path


def keep_in_models(ward, study, name="kept"):
    folder = ward["lakeside"].home.directory / "models"
    folder.mkdir(exist_ok=True)
    flat = {"model": parameters_of(build(study)).numpy()}
    path = folder / f"{name}.safetensors"
    path.write_bytes(save(flat, metadata={"study_digest": study.digest, **METADATA}))
    return path


def test_both_forms_of_a_released_model_are_read(ward, study, tmp_path):
    exported = read_released(written(tmp_path, study), study)
    kept = read_released(keep_in_models(ward, study), study)
    for model in (exported, kept):
        assert torch.equal(parameters_of(model.network), parameters_of(build(study)))
        assert (model.run, model.scales) == (RUN, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metadata": {"study_digest": "0" * 64}}, "not a model of study fever"),
        ({"metadata": {"run": "x"}}, "which run"),
        ({"tensors": {"weight": np.zeros((1, 3), np.float32)}}, "not those of the study's network"),
        ({"tensors": {"model": np.zeros(4, np.float32)}}, "not those of the study's network"),
        ({"tensors": {"model": np.full(3, np.nan, np.float32)}}, "not finite"),
        ({"tensors": {"model": np.zeros(3)}}, "not float32"),
        ({"metadata": {"standardisation": '{"columns":[{"column":"age"}]}'}}, "standardisation"),
    ],
)
def test_a_file_that_is_no_model_of_the_study_is_refused(study, tmp_path, change, reason):
    path = written(tmp_path, study, change.get("tensors"), **change.get("metadata", {}))
    with pytest.raises(BadInput, match=reason):
        read_released(path, study)


def test_bytes_that_are_no_model_are_refused(study, tmp_path):
    path = tmp_path / "model.safetensors"
    for content in (b"", b"\x80\x04.", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="not a readable model"):
            read_released(path, study)


def test_a_study_that_scales_its_features_needs_the_file_that_says_how(ward, tmp_path):
    statistics = {"epsilon": 0.5, "columns": ["age"], "standardise": True}
    scaling = ward.study(statistics=statistics)
    with pytest.raises(BadInput, match="scales its features"):
        read_released(written(tmp_path, scaling), scaling)
    scale = {"column": "age", "centre": 0.1, "spread": 0.5, "released": True}
    text = json.dumps({"columns": [scale]})
    (read,) = read_released(written(tmp_path, scaling, standardisation=text), scaling).scales
    assert read.to_json() == scale


def test_without_a_file_the_one_kept_model_is_meant(ward, study):
    home = ward["lakeside"].home
    with pytest.raises(BadInput, match="0 released models"):
        own_copy(home, study)
    path = keep_in_models(ward, study)
    assert own_copy(home, study) == path
    keep_in_models(ward, study, "another")
    with pytest.raises(BadInput, match="2 released models"):
        own_copy(home, study)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    monkeypatch.setitem(attack.__kwdefaults__, "randomness", seeded(5))


def audit_test(ward, *more):
    directory = str(ward["lakeside"].home.directory)
    return run(["audit", "test", "--dir", directory, "--study", "fever", "--shadows", "2", *more])


def test_the_command_says_what_it_found_and_writes_nothing(ward, study, capsys):
    keep_in_models(ward, study)
    before = ward["lakeside"].log_entries(study)
    assert audit_test(ward, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "INCONCLUSIVE"  # 40 patients
    assert told["claim"]["epsilon"] == 3.0
    assert [test["attack"] for test in told["membership"]] == [
        "loss threshold",
        "likelihood ratio",
        "reconstruction",
    ]
    assert [reading["stage"] for reading in told["reconstruction"]] == ["raw", "noised", "masked"]
    assert told["canaries"]["named"] > told["canaries"]["right"] > 0
    assert told["tests"] == 11
    assert ward["lakeside"].log_entries(study) == before


def test_logged_verdicts_are_listed_as_a_release_without_noise(ward, study, capsys):
    hospital = ward["lakeside"]
    keep_in_models(ward, study)
    assert audit_test(ward, "--log", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    with hospital.home.log(study.digest) as log:
        entry = log.entries()[-1]
    body = read_body(entry, HOSPITAL_TYPES)
    assert isinstance(body, AttackTested)
    assert (body.verdict, body.noise, body.run) == ("INCONCLUSIVE", "none", RUN)
    assert set(body.verdicts) == {
        "membership: loss threshold",
        "membership: likelihood ratio",
        "membership: reconstruction",
        "reconstruction: noised message",
        "reconstruction: masked message",
        "canaries: engine",
    }
    assert str(told["membership"][0]["auroc"]) not in str(entry.body)
    with hospital.home.ledger("fever-lakeside") as ledger:
        (release,) = ledger.exact_releases()
        assert (release.purpose, release.charged) == (Purpose.ATTACK_TEST, Exact())
        assert release.units == 40
        assert not ledger.training_was_exact()
        assert ledger.spent(1e-4) == 0.0


def test_a_violation_ends_with_exit_code_7_and_says_what_it_is(ward, study, monkeypatch, capsys):
    keep_in_models(ward, study)
    # An engine without its noise: the study's first message then gives the record away.
    monkeypatch.setattr(
        "wardround_client.training.stages.gaussian", lambda count, **_: np.zeros(count)
    )
    assert audit_test(ward, "--shadows", "4") == 7
    said = capsys.readouterr()
    assert "4 shadow models take about" in said.err
    assert said.out.startswith("fever: VIOLATION  (the claim is epsilon 3, delta 0.0001)")
    assert "reconstruction, noised message: VIOLATION" in said.out
    assert "would have shown" in said.out
    assert "stay here" in said.out


@pytest.mark.parametrize(
    ("more", "code"), [(("--shadows", "3"), 4), (("--model", "nothing.safetensors"), 4)]
)
def test_what_cannot_be_tested_is_bad_input(ward, study, more, code):
    keep_in_models(ward, study)
    assert audit_test(ward, *more) == code


def test_a_study_that_was_not_approved_is_not_tested(ward):
    study = ward.study()
    keep_in_models(ward, study)
    assert audit_test(ward) != 0


def test_a_study_per_record_is_refused(ward):
    by_record = ward.study(privacy__unit="record")
    keep_in_models(ward, by_record)
    model = read_released(own_copy(ward["lakeside"].home, by_record), by_record)
    records = StudyRecords(generated(4), generated(4))
    with pytest.raises(BadInput, match="unit record"):
        attack(by_record, "lakeside", records, model)


def test_an_installation_without_the_part_says_so(monkeypatch, capsys):
    missing = {"test": main.Command("wardround_nowhere.cli.attacks", "Attack.")}
    monkeypatch.setitem(main.PARTS, "audit", missing)
    assert run(["audit", "--help"]) == 0
    assert "test" in capsys.readouterr().out
    assert run(["audit", "test", "--dir", "lakeside", "--study", "fever"]) == 4
    assert "wardround_nowhere is missing" in capsys.readouterr().err


def test_half_of_the_subjects_are_members_whatever_the_held_out_fraction():
    for fraction in (0.25, 0.5, 0.75):
        held_out = round(2000 * fraction)
        records = StudyRecords(generated(2000 - held_out), generated(held_out, seed=1))
        chosen = choose_subjects(records, held_out=fraction, seed=b"study and model")
        share = chosen.subject_members.mean()
        assert len(chosen.places) == pytest.approx(2000 * 2 * min(fraction, 1 - fraction), rel=0.1)
        assert share == pytest.approx(0.5, abs=0.06)
        assert not chosen.subjects[chosen.known_members].any()
        again = choose_subjects(records, held_out=fraction, seed=b"study and model")
        assert (again.subjects == chosen.subjects).all()
        other = choose_subjects(records, held_out=fraction, seed=b"another model")
        assert fraction == 0.5 or (other.subjects != chosen.subjects).any()


def test_a_patient_counts_once_however_many_records_it_has(study):
    patients = generated(6, records_each=3)
    width = sum(1 for _ in study.contract.features())
    patients = type(patients)(
        features=patients.features[:, :width], labels=patients.labels, offsets=patients.offsets
    )
    network = build(study)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.3)
        logits = network(patients.features).squeeze(-1)
    own = ((2 * patients.labels - 1) * logits).numpy().reshape(6, 3)
    assert confidence(network, patients) == pytest.approx(own.mean(axis=1), rel=1e-5)
    losses = np.log1p(np.exp(-own)).mean(axis=1)
    assert loss_score(network, patients) == pytest.approx(-losses, rel=1e-5)
    due = patients.features.numpy().reshape(6, 3, width).mean(axis=1)
    assert mean_records(patients) == pytest.approx(due, rel=1e-5)
    some = of_patients(patients, np.array([4, 1]))
    assert some.offsets.tolist() == [0, 3, 6]
    assert torch.equal(some.features[:3], patients.features[12:15])


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_one_record_is_read_exactly_off_its_gradient(ward, hidden):
    model = {"task__model": "mlp", "task__hidden": list(hidden)} if hidden else {}
    network = build(ward.study(**model))
    record = torch.tensor([[0.3, -0.8]])
    torch.nn.functional.softplus(network(record)).sum().backward()
    change = torch.cat([p.grad.reshape(-1) for p in network.parameters()]).numpy()
    units = first_layer(network, change)
    assert has_closed_form(network)
    assert invert(units)[0] == pytest.approx(record[0].numpy(), rel=1e-4)
    others = np.array([[0.3, 0.8], [0.6, -1.6], [-0.3, 0.8]])
    assert resemblance(units, record.double().numpy()) == pytest.approx(1.0, abs=1e-5)
    assert (resemblance(units, others) < 0.99).all()
    assert len(first_layer(network, np.zeros_like(change))) == 0


def test_a_convolution_has_no_closed_form():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Linear(4, 1))
    assert not has_closed_form(network)
    assert first_layer(network, np.ones(25, np.float32)).size == 0


def test_the_records_that_are_attacked_are_the_approved_ones(ward, study):
    records = load_records(approved_study(ward["lakeside"].home, study))
    assert records.train.patients + records.held_out.patients == 40


def test_a_log_with_attack_verdicts_still_verifies_and_one_of_another_form_does_not():
    body = {
        "run": RUN_OF_EVIDENCE,
        "model_sha256": "0" * 64,
        "epsilon_claimed": 2.5,
        "delta": 1e-4,
        "alpha": 0.05,
        "tests": 11,
        "shadows": 16,
        "noise": "none",
        "verdicts": {"membership: loss threshold": "PASS"},
        "verdict": "PASS",
    }
    forms = ({}, False), ({"noise": "some"}, True), ({"auroc": 0.7}, True)
    for change, fails in forms:
        fed = honest().fork()
        fed.hospitals[VICTIM].append("attack-tested", body | change, at=fed.tick())
        found = verify_bytes(sealed(fed.parts()))
        assert found.ok is not fails, found.lines()
        assert fails == any("attack-tested" in line for line in found.lines())
