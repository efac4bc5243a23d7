"""Models of a hospital's own beside the study's: only with its policy's leave, and trained once."""

import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.hospitals import NAMES, Ward
from tests.support.masked_hospitals import seeded
from tests.support.memory_runs import Federation

from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.derive import derive_report, report_of
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.cli.main import run
from wardround.errors import BadInput, RefusedByPolicy
from wardround.models.networks import build, parameters_of
from wardround.protocol.messages import Refusal, RefusalCode
from wardround_client import models_beside
from wardround_client.approval import approve, approved_study, keep_study
from wardround_client.cli.review import in_words
from wardround_client.held_out import held_out_outcomes
from wardround_client.models_beside import before_approval, outcomes_beside, trained_alone
from wardround_client.personalisation.own_models import network_of
from wardround_client.policy import Policy
from wardround_client.records import load_records

WAYS = ["local-only", "personalised"]
ASKED = {
    "privacy__mechanism": "none",
    "privacy__epsilon": None,
    "privacy__delta": None,
    "evaluation__beside": WAYS,
}
ALLOWED = {"mechanisms": '["none"]', "allow_own_models_beside": "true"}


@pytest.fixture
def ward(tmp_path):
    with closing(Ward.make(tmp_path)) as ward:
        for name in NAMES:
            ward[name].set_policy(**ALLOWED)
        yield ward


def folder(ward, name):
    return ward[name].home.directory / models_beside.FOLDER


def test_a_federation_counts_the_same_patients_under_every_model_and_keeps_none(ward):
    federation = Federation(ward, **ASKED)
    model, session = federation.run().train_and_evaluate()
    assert all(len(list(folder(ward, name).iterdir())) == 1 for name in NAMES)
    parts = federation.close(model, session)
    assert not any(list(folder(ward, name).iterdir()) for name in NAMES)
    report = canonical_bytes(derive_report(evidence_of(parts)))
    bundle = bundle_bytes(parts, report, identity=ward.coordinator.identity())
    assert verify_bytes(bundle).ok
    found = report_of(evidence_of(parts)).evaluation
    assert [each.way for each in found.beside] == WAYS
    ward[NAMES[0]].stop()
    approved = approved_study(ward[NAMES[0]].home, federation.study)
    records = load_records(approved)
    with ward[NAMES[0]].home.ledger(approved.description.dataset) as ledger:
        evaluation = ledger.exact_releases()[-1]
    # Who trained is told of as well, and the ledger says so.
    assert evaluation.units == records.train.patients + records.held_out.patients


def test_a_policy_that_says_nothing_refuses_at_review_and_at_admission(ward):
    talk = ward.talk(**ASKED)
    home, data = ward[NAMES[0]].home, ward[NAMES[0]]
    study = keep_study(home, ward.signed(talk.study))
    ward[NAMES[0]].set_policy(mechanisms='["none"]')
    answer, _ = ward[NAMES[0]].ask(talk.open_message())
    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.POLICY
    home.approvals().joinpath(f"{study.digest}.json").unlink()
    with pytest.raises(RefusedByPolicy, match=r"allow_own_models_beside"):
        approve(
            home,
            study,
            officer="Dr Ada",
            description=data.description,
            data_folder=data.data,
            before=lambda _: pytest.fail("nothing is trained for a study that is refused"),
        )


def test_a_policy_from_before_keeps_its_digest():
    before = Policy(epsilon_budget=10.0, delta_max=1e-4, mechanisms=("local",))
    assert "allow_own_models_beside" not in before.model_dump(mode="json")
    after = before.model_copy(update={"allow_own_models_beside": True})
    assert after.digest() != before.digest()


def test_an_officer_reads_what_the_counts_tell(ward):
    said = in_words(ward.study(**ASKED))
    assert "models of each hospital's own (local-only, personalised)" in said
    assert "what is counted tells of training patients too" in said
    assert "models of" not in in_words(ward.study())


def test_alone_it_is_trained_before_approval_once_for_a_study_and_its_data(ward, monkeypatch):
    study, name = ward.study(**ASKED), NAMES[0]
    home, own = ward[name].home, ward[name]
    kept = keep_study(home, ward.signed(study))
    trained, said = [], []
    real = models_beside.train_alone

    def counted(*words):
        trained.append(words)
        return real(*words)

    monkeypatch.setattr(models_beside, "train_alone", counted)
    approve(
        home,
        kept,
        officer="Dr Ada",
        description=own.description,
        data_folder=own.data,
        before=lambda approved: before_approval(home, approved, seeded("x"), said.append),
    )
    assert len(trained) == len(said) == 1
    patients = load_records(approved_study(home, kept)).train
    again = trained_alone(home, kept, patients, seeded("other"))
    assert len(trained) == 1
    np.testing.assert_array_equal(again, trained_alone(home, kept, patients, seeded("third")))
    (path,) = folder(ward, name).iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    # Other data, another model; the old one is not kept.
    turned = replace(patients, labels=1 - patients.labels)
    other = trained_alone(home, kept, turned, seeded("x"))
    assert len(trained) == 2
    assert np.abs(other - again).max() > 0.01
    assert [each != path for each in folder(ward, name).iterdir()] == [True]
    path.write_bytes(b"no model")
    with pytest.raises(BadInput, match="not a readable model"):
        trained_alone(home, kept, patients, seeded("x"))


def test_the_command_that_approves_loads_torch_only_to_train_alone(ward, tmp_path, capsys):
    name, signed = NAMES[0], tmp_path / "signed.json"
    words = ["review", "approve", str(signed), "--dir", str(ward[name].home.directory)]
    words += ["--dataset", str(ward[name].description), "--data", str(ward[name].data)]
    program = (
        "import sys\nfrom wardround.cli.main import run\ncode = run(sys.argv[1:])\n"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    signed.write_bytes(ward.signed(ward.study(privacy__mechanism="none")))
    subprocess.run([sys.executable, "-c", program, *words], check=True, timeout=60)
    assert not folder(ward, name).exists()
    signed.write_bytes(ward.signed(ward.study(**ASKED)))
    assert run(words) == 0
    assert "training alone" in capsys.readouterr().err
    assert len(list(folder(ward, name).iterdir())) == 1


def test_what_does_not_converge_or_has_nobody_to_learn_from_is_scored_all_the_same(
    ward, monkeypatch
):
    federation = Federation(ward, **ASKED)
    home, study = ward[NAMES[0]].home, federation.study
    records = load_records(approved_study(home, study))
    start = parameters_of(build(study)).numpy().copy()
    released = start + 0.5
    network = network_of(study, released)
    outcomes = held_out_outcomes(network, records.held_out, study)
    monkeypatch.setattr(models_beside, "train_alone", lambda *_: np.full_like(start, np.nan))
    train, none = records.train, np.zeros(1, dtype=np.int64)
    empty = replace(train, features=train.features[:0], labels=train.labels[:0], offsets=none)
    nobody = replace(records, train=empty)
    said = outcomes_beside(home, study, released, nobody, outcomes, seeded("x"))
    learnt_nothing = held_out_outcomes(network_of(study, start), records.held_out, study)
    np.testing.assert_array_equal(said[0], learnt_nothing.outputs)
    np.testing.assert_array_equal(said[1], outcomes.outputs)
    assert torch.isfinite(torch.from_numpy(said)).all()


def test_personalised_is_the_released_model_moved_towards_its_own_patients(ward):
    federation = Federation(ward, **ASKED)
    home, study = ward[NAMES[0]].home, federation.study
    records = load_records(approved_study(home, study))
    released = parameters_of(build(study)).numpy().copy()
    outcomes = held_out_outcomes(network_of(study, released), records.held_out, study)
    said = outcomes_beside(home, study, released, records, outcomes, seeded("x"))
    assert np.abs(said[1] - outcomes.outputs).max() > 1e-3
    assert np.abs(said[1] - said[0]).max() > 1e-3
