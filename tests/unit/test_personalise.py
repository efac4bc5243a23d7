"""What did joining give? Who may be looked at for it, what is kept, and what the sentence says."""

import dataclasses
import json
import stat

import numpy as np
import pytest
import torch
from tests.support.decision_support import support_of, ward_with_model, write_fevers
from tests.support.gan_plans import PLANS
from tests.support.masked_hospitals import seeded
from tests.support.personal_homes import released_model, support_in_memory, with_labels
from tests.support.study_plans import STUDIES

from wardround.errors import BadInput, VerificationFailed
from wardround.models.released import read_released
from wardround_client.cli.predict import support_for
from wardround_client.personalisation import choosing
from wardround_client.personalisation.choosing import Candidate, choose, nearest
from wardround_client.personalisation.kept import (
    MODEL,
    NUMBERS,
    PAGE,
    folder_of,
    keep,
    personalised,
    refuse_a_second_look,
)
from wardround_client.personalisation.measures import Aim
from wardround_client.personalisation.own_models import Scope, fine_tuned, network_of
from wardround_client.personalisation.page import page
from wardround_client.personalisation.paired import Gain, Row, Told, Way
from wardround_client.personalisation.personalise import personalise
from wardround_client.personalisation.result import WARNING, Patients, Result
from wardround_client.prediction.standing import NOT_AUDITED

FAMILIES = (
    "logistic regression",
    "mlp",
    "classes of a table",
    "small cnn",
    "hazards",
    "gru",
    "several targets",
    "several numbers",
    "dense autoencoder",
)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Enough for small tables, and quick."""
    monkeypatch.setattr(choosing, "STEPS", (0, 5, 60))
    monkeypatch.setattr(choosing, "PULLS", (1.0, 0.01))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_told_what_joining_gave(name):
    support = support_in_memory(STUDIES[name](), held_out=40)
    result, model = personalise(support, seeded(name), scope=Scope.HEAD, steps=20)
    assert model is not None
    assert result.ways == (Way.RELEASED, Way.ALONE, Way.PERSONALISED)
    first = result.rows[0]
    assert first.values[Way.PERSONALISED].value is not None
    assert first.gains[0].difference.low < first.gains[0].difference.high
    said = json.dumps(result.to_json(), allow_nan=False)
    assert WARNING in json.loads(said)["warning"]
    html = page(result)
    assert result.verdict() in html
    assert "<script" not in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")


def test_held_out_patients_have_no_say_in_the_model_nor_in_how_far_it_goes():
    support = support_in_memory(STUDIES["mlp"]())
    turned = with_labels(support, 1 - support.held_out.labels)
    (one, model), (other, same) = (
        personalise(each, seeded("x"), scope=Scope.ALL) for each in (support, turned)
    )
    assert model.tobytes() == same.tobytes()
    assert one.choice == other.choice
    assert one.rows[0].values[Way.ALONE].value != other.rows[0].values[Way.ALONE].value
    labels = 1 - support.train.labels
    learns = dataclasses.replace(support, train=dataclasses.replace(support.train, labels=labels))
    assert personalise(learns, seeded("x"), scope=Scope.ALL)[0].choice != one.choice


def test_cross_validation_scores_nobody_by_a_model_that_was_trained_on_it(monkeypatch):
    """Every training patient is left out once, and the parts that train never have it."""
    study = STUDIES["logistic regression"]()
    support, seen = support_in_memory(study, train=23), []
    real = choosing._path

    def watched(study, model, parts, *rest):
        seen.append([set(map(tuple, part.features.numpy().tolist())) for part in parts])
        return real(study, model, parts, *rest)

    monkeypatch.setattr(choosing, "_path", watched)
    choose(study, released_model(study), support.train, seeded("x"), scope=Scope.HEAD, steps=2)
    everybody = set(map(tuple, support.train.features.numpy().tolist()))
    left_out = [tuple(sorted(out)) for _, out in seen]
    assert len(set(left_out)) == 5
    assert sum(len(out) for out in set(left_out)) == len(everybody) == 23
    for others, out in seen:
        assert not others & out
        assert others | out == everybody


def test_of_choices_that_are_as_good_the_nearest_to_the_released_model_is_taken():
    def candidate(steps, pull, loss, error=0.02):
        return Candidate(steps=steps, pull=pull, loss=loss, error=error)

    far, near = candidate(300, 0.01, 0.50), candidate(30, 0.1, 0.515)
    none = candidate(0, 1.0, 0.55, 0.0)
    assert nearest([none, near, far]) == near
    assert nearest([candidate(0, 1.0, 0.51, 0.0), near, far]).steps == 0
    assert nearest([near, candidate(30, 1.0, 0.516), far]).pull == 1.0
    broken = candidate(10, 0.1, np.inf, np.inf)
    assert nearest([none, broken]) == none


def test_fine_tuning_helps_where_the_hospital_is_unlike_the_others(monkeypatch):
    """The released model is wrong here: what raises the risk lowers it there."""
    monkeypatch.setattr(choosing, "STEPS", (0, 300))
    monkeypatch.setattr(choosing, "PULLS", (0.01,))
    support = support_in_memory(STUDIES["logistic regression"](), train=200, held_out=200)
    study = support.standing.study
    wrong = np.zeros_like(released_model(study))
    wrong[0] = -2.0
    released = dataclasses.replace(support.standing.released, network=network_of(study, wrong))
    support = dataclasses.replace(
        support, standing=dataclasses.replace(support.standing, released=released)
    )
    result, model = personalise(support, seeded("x"), scope=Scope.HEAD)
    assert result.choice.tuning.steps == 300
    gains = {(gain.of, gain.over): gain.difference for gain in result.rows[0].gains}
    assert gains[Way.PERSONALISED, Way.RELEASED].low > 0.3
    assert gains[Way.RELEASED, Way.ALONE].high < -0.3
    tuning = result.choice.tuning
    again = fine_tuned(
        study, wrong, support.train, seeded("y"), steps=tuning.steps, pull=tuning.pull
    )
    np.testing.assert_allclose(model, again, atol=0.2)


def test_a_gan_is_refused_with_a_sentence():
    support = support_in_memory(PLANS["table"]())
    with pytest.raises(BadInput, match="a GAN is not personalised"):
        personalise(support, seeded("x"), scope=Scope.HEAD)


@pytest.mark.parametrize(("train", "held_out"), [(5, 3), (1, 1), (12, 2)])
def test_a_handful_of_patients_get_an_honest_answer(train, held_out):
    support = support_in_memory(STUDIES["mlp"](), train=train, held_out=held_out)
    result, model = personalise(support, seeded("x"), scope=Scope.HEAD)
    assert "cannot be told" in result.verdict()
    assert (model is None) == (train < 10 or not result.choice.tuning.steps)
    if train < 10:
        assert f"{train} training patients are too few" in result.fine_tuning()
    json.dumps(result.to_json(), allow_nan=False)
    assert "NA" in page(result)


def test_nobody_to_train_on_or_to_score_is_refused_by_name():
    for train, held_out, what in ((0, 9, "training"), (9, 0, "held-out")):
        support = support_in_memory(STUDIES["mlp"](), train=train, held_out=held_out)
        with pytest.raises(BadInput, match=f"no {what} patients"):
            personalise(support, seeded("x"), scope=Scope.HEAD)


def test_a_hospital_where_all_had_the_same_outcome_is_told_na():
    support = support_in_memory(STUDIES["mlp"]())
    support = with_labels(support, torch.ones(60))
    result, _ = personalise(support, seeded("x"), scope=Scope.HEAD)
    assert all(told.value is None for told in result.rows[0].values.values())
    assert result.verdict().endswith("60 of them with the outcome: AUROC is NA.")


def verdict_of(low, value, high, *, aim=Aim.HIGHER):
    told = Told(value=value, low=low, high=high)
    gain = Gain(of=Way.PERSONALISED, over=Way.ALONE, difference=told)
    values = {way: Told(value=0.8, low=0.7, high=0.9) for way in Way}
    row = Row(name="AUROC", of="", unit="", aim=aim, values=values, gains=(gain,))
    return Result(
        hospital="alpha",
        study="small",
        study_digest="0" * 64,
        title="Small",
        run="1" * 32,
        released="2" * 64,
        personalised="3" * 64,
        epsilon=3.0,
        scope="head",
        patients=Patients(trained_on=200, held_out=75, positives=30),
        choice=None,
        rows=(row,),
    ).verdict()


def test_the_verdict_says_no_more_than_the_interval_does():
    assert verdict_of(0.01, 0.06, 0.11) == (
        "Joining gave: AUROC +0.060 (95 % +0.010 to +0.110), personalised against alone."
    )
    assert verdict_of(-0.11, -0.06, -0.01).startswith("Joining took: AUROC -0.060")
    assert "cannot be told from 75 held-out patients, 30 of them" in verdict_of(-0.02, 0.06, 0.1)
    assert "cannot be told" in verdict_of(None, 0.06, None)
    assert "NA" in verdict_of(None, None, None)
    assert verdict_of(-0.3, -0.2, -0.1, aim=Aim.LOWER).startswith("Joining gave")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A hospital at home, after `personalise` with a number of steps."""
    ward, study = ward_with_model(tmp_path_factory.mktemp("home"))
    hospital = ward["lakeside"]
    support = support_of(hospital)
    result, model = personalise(support, seeded("x"), scope=Scope.HEAD, steps=50)
    keep(hospital.home, study, result, model)
    return hospital, study, result


def test_what_is_kept_is_for_its_owner_alone_and_says_that_it_must_not_leave(home):
    hospital, study, result = home
    folder = folder_of(hospital.home, study)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in (MODEL, PAGE, NUMBERS):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert b"must not leave" in (folder / name).read_bytes()
    assert any("must not leave" in line for line in result.lines())
    assert result.personalised == json.loads((folder / NUMBERS).read_bytes())["personalised"]
    with pytest.raises(BadInput, match="Held-out patients are scored once"):
        refuse_a_second_look(hospital.home, study)


def test_a_personalised_model_is_never_taken_for_a_released_one(home):
    hospital, study, _ = home
    with pytest.raises(BadInput, match="not those of the study's network"):
        read_released(folder_of(hospital.home, study) / MODEL, study)


def test_predictions_name_the_personalised_model_by_its_digest(home):
    hospital, study, result = home
    support = support_for(hospital.home.directory, "fever", None, personalised=True)
    told = support.standing.to_json()
    assert (told["model"], told["personalised_from"]) == (result.personalised, result.released)
    assert told["note"] == NOT_AUDITED
    assert NOT_AUDITED in support.standing.line()
    released = support_for(hospital.home.directory, "fever", None)
    assert released.standing.model == result.released
    assert "note" not in released.standing.to_json()
    # Its own calibration: another model gives the same held-out patients other scores.
    own, others = (each.calibration.outcomes for each in (support, released))
    assert (own.truth == others.truth).all()
    assert (own.outputs != others.outputs).any()
    with pytest.raises(BadInput, match="about the released model"):
        support_for(
            hospital.home.directory, "fever", folder_of(hospital.home, study), personalised=True
        )


@pytest.mark.parametrize("what", ["model", "numbers", "released"])
def test_a_personalised_model_that_was_changed_or_is_of_another_run_is_not_used(home, what):
    hospital, study, _ = home
    standing = support_of(hospital).standing
    path = folder_of(hospital.home, study) / (NUMBERS if what == "numbers" else MODEL)
    whole = path.read_bytes()
    if what == "released":
        standing = dataclasses.replace(standing, model="0" * 64)
    elif what == "numbers":
        path.write_bytes(whole.replace(b'"personalised": "', b'"personalised": "0'))
    else:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(VerificationFailed):
            personalised(hospital.home, standing)
    finally:
        path.write_bytes(whole)


def test_with_few_held_out_patients_a_personalised_model_answers_nobody(tmp_path):
    from wardround_client.prediction.predict import predict

    ward, study = ward_with_model(tmp_path, patients=50)
    hospital = ward["lakeside"]
    support = support_of(hospital)
    assert support.held_out.patients < 20
    result, model = personalise(support, seeded("x"), scope=Scope.HEAD, steps=50)
    keep(hospital.home, study, result, model)
    write_fevers(hospital.data / "new.csv", 3, seed=8, prefix="n")
    description = support.approved.description.model_copy(update={"path": "new.csv"})
    own = support_for(hospital.home.directory, "fever", None, personalised=True)
    answers = predict(own, description, hospital.data).answers
    assert {answer.abstained.value for answer in answers} == {
        "too few held-out patients for a personalised model"
    }
    assert predict(support, description, hospital.data).answers[0].abstained is None


def test_where_the_released_model_is_the_one_to_use_no_other_one_is_kept(tmp_path):
    ward, study = ward_with_model(tmp_path)
    hospital = ward["lakeside"]
    support = support_of(hospital)
    result, model = personalise(support, seeded("x"), scope=Scope.HEAD)
    assert model is None
    assert "could not tell that it helps" in result.fine_tuning()
    keep(hospital.home, study, result, model)
    with pytest.raises(BadInput, match="no personalised model is kept here"):
        support_for(hospital.home.directory, "fever", None, personalised=True)
