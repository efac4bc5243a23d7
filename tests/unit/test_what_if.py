"""One patient under both treatments, and drugs against their own typical level."""

import json

import numpy as np
import pytest
import torch
from tests.support.decision_support import RISK, keep_model, support_of
from tests.support.hospitals import Ward

from wardround.errors import BadInput
from wardround.models.networks import build
from wardround.study.treatment import Ranking, Treatment
from wardround_client.data.description import read_description
from wardround_client.prediction.answers import Number, Reason
from wardround_client.prediction.calibrated import Calibrator
from wardround_client.prediction.choices import Interval
from wardround_client.prediction.predict import predict
from wardround_client.prediction.ranking import ranked, typical_levels
from wardround_client.prediction.what_if import WhatIf, advised, number_needed
from wardround_client.training.plan import PatientRecords

TREATMENT = {
    "column": "male",
    "treated": "syrup",
    "untreated": "water",
    "probability": 0.5,
    "assignment": "randomised",
    "protocol": "1:1, envelopes",
    "edges": [0.0, 0.2],
    "worth": 0.0,
}
TASK = {"family": "risk", "model": "logistic-regression", "treatment": TREATMENT}
ASSUMED = TREATMENT | {"assignment": "assumed", "protocol": None, "assumption": "as if by chance"}


def write_trial(path, patients, seed, *, share=lambda _: 0.5):
    """Syrup takes the fever of the old and does nothing for the young."""
    random = np.random.default_rng(seed)
    lines = ["id,age,male,fever"]
    for number in range(patients):
        age = random.integers(1, 99)
        arm = int(random.random() < share(age))
        risk = 0.1 + 0.8 * age / 100 * (1 - 0.8 * arm)
        lines.append(f"p{number},{age},{arm},{int(random.random() < risk)}")
    path.write_text("\n".join(lines) + "\n")


def ward_with_trial(folder, patients=1500, treatment=TREATMENT, **trial):
    ward = Ward.make(folder, ("lakeside", "northside"))
    hospital = ward["lakeside"]
    write_trial(hospital.data / "patients.csv", patients, 5, **trial)
    task = TASK | {"treatment": {name: one for name, one in treatment.items() if one is not None}}
    study = ward.study(task=task, contract__label=RISK, evaluation__held_out=0.5)
    hospital.approve(ward.signed(study))
    network = build(study)
    with torch.no_grad():
        # age, arm, arm x age: as it was drawn, nearly
        network.layers.weight[:] = torch.tensor([[1.2, -0.9, -0.9]])
        network.layers.bias[:] = -0.7
    keep_model(hospital, study, network)
    rows = ["old,95,,", "young,3,,", "middle,50,,", "odd,130,,"]
    (hospital.data / "new.csv").write_text("\n".join(["id,age,male,fever", *rows]) + "\n")
    return ward, hospital


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    ward, hospital = ward_with_trial(tmp_path_factory.mktemp("trial") / "ward")
    yield hospital
    ward.close()


def described(hospital, path):
    text = hospital.description.read_text().replace('"patients.csv"', f'"{path}"')
    target = hospital.data / f"{path}.toml"
    target.write_text(text[: text.index("[label]")] + text[text.index("[[columns]]") :])
    return read_description(target)


def asked(hospital, path="new.csv"):
    found = predict(support_of(hospital), described(hospital, path), hospital.data)
    return {answer.patient: answer for answer in found.answers}


def test_each_arm_is_calibrated_by_the_held_out_patients_who_were_in_it(kept):
    support = support_of(kept)
    outcomes = WhatIf.of(support).outcomes
    old = asked(kept)["old"]
    for arm, channel in enumerate(old.channels):
        own = outcomes.treated == arm
        calibrator = Calibrator.of(outcomes.outputs[own, 0], outcomes.truth[own] > 0.5)
        due = calibrator.interval(channel.score)
        assert channel.channel == f"fever, {('water', 'syrup')[arm]}"
        assert (channel.low, channel.risk, channel.high) == (due.low, due.risk, due.high)
        assert channel.calibrated_on == own.sum()
    untreated, treated = old.channels
    assert old.choice.benefit.value == untreated.risk - treated.risk
    assert old.choice.benefit.low == untreated.low - treated.high


def test_whom_it_helps_gets_a_recommendation_and_whom_it_does_not_gets_none(kept):
    found = asked(kept)
    old, young = found["old"].choice, found["young"].choice
    assert old.advice == "syrup"
    assert 0.4 < old.benefit.value < 0.9  # 0.61 by how it was drawn
    assert old.here.low < 0.43 < old.here.high  # 0.64 of the mean age of its stratum
    assert old.needed.value == 1 / old.benefit.value
    assert young.advice is None
    assert "more or less than 0" in young.why
    assert found["odd"].abstained is Reason.OUTSIDE
    text = "\n".join(found["young"].lines({}))
    assert "no recommendation" in text
    assert "decided by chance: 1:1, envelopes" in text
    value = json.loads(json.dumps(found["old"].to_json()))["choice"]
    assert (value["kind"], value["advice"], value["everywhere"]) == ("treatment", "syrup", None)


def test_a_file_need_not_say_a_treatment_and_one_that_does_changes_nothing(kept):
    rows = ["old,95,1,", "young,3,0,", "middle,50,1,", "odd,130,0,"]
    (kept.data / "told.csv").write_text("\n".join(["id,age,male,fever", *rows]) + "\n")
    plain = [answer.to_json() for answer in asked(kept).values()]
    assert [answer.to_json() for answer in asked(kept, "told.csv").values()] == plain


def test_a_held_out_patient_does_not_calibrate_its_own_arm(kept):
    support = support_of(kept)
    key = support.held_out_keys[0]
    found = predict(support, described(kept, "patients.csv"), kept.data, patient=key).answers[0]
    treated = WhatIf.of(support).outcomes.treated
    assert [one.calibrated_on for one in found.channels] == [
        int((treated == arm).sum()) - int(treated[0] == arm) for arm in (0, 1)
    ]


def test_arms_that_chance_did_not_give_are_refused_unless_the_study_says_so(tmp_path):
    by_age = {"share": lambda age: 0.2 + 0.7 * age / 100}
    ward, hospital = ward_with_trial(
        tmp_path / "a", 600, TREATMENT | {"probability": 0.4}, **by_age
    )
    (answer,) = {a.abstained for a in asked(hospital).values() if a.abstained != Reason.OUTSIDE}
    assert answer is Reason.NOT_RANDOMISED
    ward.close()
    assumed = ASSUMED | {"probability": 0.4}
    ward, hospital = ward_with_trial(tmp_path / "b", 600, assumed, **by_age)
    old = asked(hospital)["old"]
    assert old.abstained is None
    assert old.choice.caveat == "Nobody was randomised; it is assumed, not shown: as if by chance"
    ward.close()


def test_an_arm_without_both_outcomes_gives_no_answer(tmp_path):
    ward, hospital = ward_with_trial(tmp_path / "ward", 3)
    assert {a.abstained for a in asked(hospital).values()} == {Reason.OUTSIDE, Reason.ONE_CLASS}
    ward.close()


PLAN = Treatment(**TREATMENT)


@pytest.mark.parametrize(
    ("benefit", "seen", "advice"),
    [
        ((0.1, 0.2), (0.01, 0.3), "syrup"),
        ((0.1, 0.2), (-0.01, 0.3), None),
        ((-0.1, 0.2), (0.01, 0.3), None),
        ((-0.2, -0.1), (-0.3, -0.01), "water"),
        ((0.1, 0.2), None, None),
    ],
)
def test_nothing_is_advised_unless_both_intervals_are_on_one_side(benefit, seen, advice):
    def interval(ends):
        return None if ends is None else Interval(value=sum(ends) / 2, low=ends[0], high=ends[1])

    found, why = advised(PLAN, interval(benefit), interval(seen))
    assert found == advice
    assert (why is None) == (advice is not None)


def test_there_is_no_number_needed_where_the_benefit_may_be_none():
    some, none = Interval(value=0.1, low=0.01, high=0.2), Interval(value=0.1, low=0.0, high=0.2)
    assert number_needed(none, some) is None
    assert number_needed(some, none) is None
    assert number_needed(some, None) is None
    with pytest.raises(BadInput, match="no treatment is to be chosen"):
        WhatIf.of(support_without())


def support_without():
    class Study:
        name, task = "fever", type("Task", (), {"treatment": None})

    class Support:
        standing = type("Standing", (), {"study": Study})

    return Support()


RANGES = [(-8.0, 8.0), (-8.0, 8.0), (-8.0, 8.0)]


def measured(seed=1, count=200):
    """Three drugs of other doses; the third is known of nine patients only."""
    random = np.random.default_rng(seed)
    values = np.stack([random.normal(mean, 1, count) for mean in (-5, 3, 0)], axis=1)
    values[9:, 2] = np.nan
    labels = torch.from_numpy(values / 8.0).float()
    return values, PatientRecords(
        features=torch.zeros(count, 1), labels=labels, offsets=np.arange(count + 1)
    )


def number(name, value, half):
    return Number(
        channel=name,
        unit="ln(umol/L)",
        value=value,
        low=value - half,
        high=value + half,
        error=0.1,
        calibrated_on=50,
    )


def test_levels_are_the_median_and_the_quartiles_of_the_hospitals_own_patients():
    values, patients = measured()
    levels = typical_levels((patients,), RANGES)
    assert levels[2] is None
    for place in (0, 1):
        median, spread, known = levels[place]
        quarters = np.percentile(values[:, place], [25, 75])
        assert median == pytest.approx(np.median(values[:, place]), abs=1e-5)
        assert spread == pytest.approx((quarters[1] - quarters[0]) / 1.34898, rel=1e-4)
        assert spread == pytest.approx(1.0, abs=0.25)
        assert known == 200


@pytest.mark.parametrize(("half", "alone"), [(0.4, "strong"), (2.0, None)])
def test_drugs_are_ranked_by_what_is_better_than_usual_not_by_dose(half, alone):
    levels = typical_levels((measured()[1],), RANGES)
    # the first works at low doses, as always; the second works better here than usual
    channels = (number("usual", -5.0, half), number("strong", 1.0, half), number("rare", 0, half))
    found = ranked(channels, levels, Ranking(better="lower"))
    assert [drug.channel for drug in found.drugs] == ["strong", "usual"]
    assert found.drugs[0].better_by.value == pytest.approx(2.0, abs=0.5)
    assert found.stands_out == alone
    assert found.overlapping == (() if alone else ("usual",))
    assert found.without_level == ("rare",)
    text = "\n".join(found.lines())
    assert ("stands out: strong" in text) == (alone is not None)
    assert ("no drug is recommended" in text) == (alone is None)
    higher = ranked(channels, levels, Ranking(better="higher"))
    assert [drug.channel for drug in higher.drugs] == ["usual", "strong"]


def test_one_drug_alone_stands_out_from_nothing():
    levels = typical_levels((measured()[1],), RANGES)
    found = ranked((number("usual", -9.0, 0.1),), levels[:1], Ranking(better="lower"))
    assert (found.stands_out, found.overlapping) == (None, ())
    assert ranked((), (), Ranking(better="lower")) is None
