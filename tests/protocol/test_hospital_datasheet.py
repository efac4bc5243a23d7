"""A hospital's verdict on its data: told once, when the policy lets it; and who is not ready."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.support.hospitals import NAMES, RUN, Ward
from tests.support.memory_runs import Federation

from wardround.audit.bodies import HOSPITAL_TYPES
from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.derive import derive_report, report_of
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.cli import main as cli
from wardround.errors import RefusedByPolicy
from wardround.protocol.halves import model_digest
from wardround.protocol.messages import Joined, Refusal, RefusalCode
from wardround_client.cli.review import in_words
from wardround_client.ledger import Purpose
from wardround_server.rounds.closing import RunCloser
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord

HARBOUR, LAKESIDE, NORTHSIDE = NAMES
STATISTICS = {"epsilon": 5.0, "bins": 0}
ONLY_COUNTED = {"rounds__count": 0, "statistics": STATISTICS}
MANY = 300


def write_many(path, seed, *, patients=MANY, factor=1.0, sick=0.5, lacking=0.0):
    """Patients of a hospital: ages in another unit, an outcome's share, a share without an age."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "id": [f"canary-{number}" for number in range(patients)],
            # Five digits, so that none is what a rounded statistic happens to be.
            "age": (np.clip(random.normal(60, 12, patients), 1, 99) * factor).round(5),
            "male": random.integers(0, 2, patients),
            "fever": (random.random(patients) < sick).astype(int),
        }
    )
    table.loc[random.random(patients) < lacking, "age"] = np.nan
    table.to_csv(path, index=False)


@pytest.fixture
def ward(tmp_path):
    with Ward.holding(tmp_path, write_many) as ward:
        yield ward


def contract_with_missing(ward):
    """The study's columns, of which the age may be missing."""
    columns = ward.study().to_json()["contract"]["columns"]
    return [{**each, "may_be_missing": each["name"] == "age"} for each in columns]


def ended(ward, federation):
    """Run to the end; the evidence of it."""
    run = federation.run()
    model, session = run.train_and_evaluate()
    if federation.study.rounds.count:
        return federation.close(model, session)
    record = RunRecord(federation.study, RUN, federation.log, federation.status)
    record.closed(0, model_digest(model, run.scale))
    closer = RunCloser(
        Post(federation.grid, lanes=4096),
        record,
        ward.signed(federation.study),
        ward.coordinator.identity().public_key,
        ward.identity_keys,
    )
    return closer.close(session, None, deadline_s=5.0)


def verified(ward, parts):
    report = canonical_bytes(derive_report(evidence_of(parts)))
    return verify_bytes(bundle_bytes(parts, report, identity=ward.coordinator.identity()))


def told(ward, name, federation):
    return [
        body for kind, body in ward[name].log_entries(federation.study) if kind == "data-described"
    ]


def test_by_default_nothing_is_told_and_the_report_has_no_such_field(ward):
    federation = Federation(ward)
    parts = ended(ward, federation)
    assert [told(ward, name, federation) for name in NAMES] == [[], [], []]
    value = derive_report(evidence_of(parts))
    assert "datasheets" not in value
    assert "quality" not in federation.study.to_json()  # studies from before keep their digest
    assert not any("Verdicts on hospitals" in line for line in value["not_protected"])


def test_the_words_and_counts_that_the_policies_allow_are_in_log_ledger_report_and_verify(ward):
    ward[HARBOUR].set_policy(datasheet='"counts"')
    ward[LAKESIDE].set_policy(datasheet='"verdict"')
    federation = Federation(ward, **ONLY_COUNTED)
    parts = ended(ward, federation)
    (body,) = told(ward, HARBOUR, federation)
    HOSPITAL_TYPES["data-described"].model_validate(body)
    assert (body["verdict"], body["reasons"], body["noise"]) == ("ready", [], "none")
    assert body["numbers"]["patients"] == body["numbers"]["records"] == MANY
    assert sum(body["numbers"]["outcomes"]) == pytest.approx(MANY, abs=5)
    assert all(count % 5 == 0 for count in body["numbers"]["outcomes"])
    (words,) = told(ward, LAKESIDE, federation)
    assert (words["verdict"], words["numbers"]) == ("ready", None)
    assert told(ward, NORTHSIDE, federation) == []
    kinds = [kind for kind, _ in ward[HARBOUR].log_entries(federation.study)]
    assert kinds[-2:] == ["data-described", "run-ended"]

    found = verified(ward, parts)
    assert found.ok, list(found.lines())
    report = report_of(evidence_of(parts))
    assert [each.hospital for each in report.datasheets] == [HARBOUR, LAKESIDE]
    assert all(each.compared for each in report.datasheets)
    assert report.datasheets[0].patients.value == MANY
    assert report.datasheets[1].patients.value is None
    assert any("Verdicts on hospitals' data" in line for line in report.not_protected)
    ward[HARBOUR].stop()
    with ward[HARBOUR].home.ledger("fever-harbour") as ledger:
        (release,) = [r for r in ledger.exact_releases() if r.purpose is Purpose.DATASHEET]
        assert (release.units, release.done is not None) == (MANY, True)
        assert not ledger.training_was_exact()


CASES = [
    pytest.param(*case, marks=[] if quick else pytest.mark.slow)
    for quick, case in (
        (False, ({"sick": 0.0}, "ready with remarks", ["an outcome is rare"])),
        (True, ({"patients": 5}, "not ready", ["too few patients", "an outcome is rare"])),
        (False, ({"lacking": 0.4}, "ready with remarks", ["much is missing"])),
        (False, ({"factor": 0.2}, "not ready", ["unit or scale"])),
    )
]


@pytest.mark.parametrize(("change", "verdict", "reasons"), CASES)
def test_a_hospital_that_is_not_like_the_others_gets_an_honest_verdict(
    ward, change, verdict, reasons
):
    """One class, five patients, 40 % missing, an age in another unit; none ends the run."""
    write_many(ward[HARBOUR].data / "patients.csv", 0, **change)
    for name in NAMES:
        ward[name].set_policy(datasheet='"counts"')
    federation = Federation(ward, **ONLY_COUNTED, contract__columns=contract_with_missing(ward))
    parts = ended(ward, federation)
    (body,) = told(ward, HARBOUR, federation)
    assert body["verdict"] == verdict
    assert set(reasons) <= set(body["reasons"]) <= {*reasons, "differs from the others"}
    for name in (LAKESIDE, NORTHSIDE):
        (others,) = told(ward, name, federation)
        assert others["verdict"] != "not ready"
    found = verified(ward, parts)
    assert found.ok, list(found.lines())
    if change == {"patients": 5}:
        assert body["numbers"]["patients"] is None
        assert body["numbers"]["outcomes"] == [None, None]


def test_what_was_released_is_kept_and_the_next_study_of_the_contract_is_held_against_it(ward):
    """First only counted, then trained: by then a hospital with another unit does not join."""
    counted = Federation(ward, **ONLY_COUNTED)
    ended(ward, counted)
    (kept,) = (ward[HARBOUR].home.directory / "statistics").iterdir()
    assert kept.parent.stat().st_mode & 0o077 == 0
    assert len(json.loads(kept.read_bytes())["own"]) == len(
        json.loads(kept.read_bytes())["released"]["sums"]
    )
    for name in NAMES:
        ward[name].set_policy(datasheet='"verdict"')
    strict = ward.study(quality={"refuse": True})
    talk = ward.talk(quality={"refuse": True})
    assert talk.study == strict
    assert isinstance(ward[HARBOUR].ask(talk.open_message())[0], Joined)
    write_many(ward[HARBOUR].data / "patients.csv", 0, factor=0.2)
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Refusal(code=RefusalCode.DATA)
    why = json.loads((ward[HARBOUR].home.directory / "status.json").read_bytes())["why"]
    assert "age: the mean lies over 3 standard deviations" in why
    assert "canary" not in why


def test_a_study_that_refuses_needs_a_policy_that_lets_the_verdict_leave(ward):
    study = ward.study(quality={"refuse": True})
    with pytest.raises(RefusedByPolicy, match="`datasheet` lets no verdict leave"):
        ward[HARBOUR].approve(ward.signed(study))
    ward[HARBOUR].approve(ward.signed(ward.study(quality={"least_patients": 50})))
    assert "data        at least 11 patients; means within 3 standard deviations" in in_words(study)
    assert "who is not ready does not join, which tells it" in in_words(study)
    assert "data        no limits beyond the contract's" in in_words(ward.study())


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"least_patients": MANY + 1}, "fewer than 301 patients"),
        ({"least_per_outcome": MANY}, "no: fewer than 300 patients, the study asks for them"),
        (
            {"expect": [{"column": "age", "median": [5, 20]}]},
            "age: the median is above the 5 to 20",
        ),
    ],
)
def test_public_limits_alone_refuse_before_anything_was_released(ward, limits, reason):
    for name in NAMES:
        ward[name].set_policy(datasheet='"verdict"')
    talk = ward.talk(quality={"refuse": True, **limits})
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Refusal(code=RefusalCode.DATA)
    assert reason in json.loads((ward[HARBOUR].home.directory / "status.json").read_bytes())["why"]
    lenient = ward.talk(quality={"refuse": False, **limits})
    assert isinstance(ward[HARBOUR].ask(lenient.open_message())[0], Joined)


def run_command(capsys, *words):
    code = cli.run([str(word) for word in words])
    return code, capsys.readouterr()


def test_the_command_says_column_by_column_what_to_fix_and_no_patients_value(ward, capsys):
    counted = Federation(ward, **ONLY_COUNTED)
    ended(ward, counted)
    ward[HARBOUR].stop()
    asked = ("data", "quality", "--dir", ward[HARBOUR].home.directory, "--study", "fever")
    code, said = run_command(capsys, *asked)
    assert code == 0
    assert "ready" in said.out
    assert "the policy lets the report tell: nothing" in said.out
    write_many(ward[HARBOUR].data / "patients.csv", 0, factor=0.2137)
    ages = pd.read_csv(ward[HARBOUR].data / "patients.csv")["age"]
    code, said = run_command(capsys, *asked)
    assert code == 4
    assert "not ready" in said.out
    assert "unit or scale" in said.out
    assert "canary" not in said.out + said.err
    assert [age for age in ages.unique() if f"{age} " in said.out] == []
    code, said = run_command(capsys, *asked, "--json")
    view = json.loads(said.out.splitlines()[0])
    assert (code, view["verdict"], view["compared"]) == (4, "not ready", True)
    (mean,) = [each for each in view["differences"] if each["what"] == "mean"]
    assert mean["own"] == pytest.approx(ages.mean(), abs=0.3)
    assert mean["others"] == pytest.approx(60, abs=3)
    assert mean["surely_apart"] > 3
    assert view["to_fix"][0]["column"] == "age"


def test_a_damaged_file_of_kept_statistics_is_named_and_costs_no_run_its_end(ward, capsys):
    ended(ward, Federation(ward, **ONLY_COUNTED))
    (kept,) = (ward[HARBOUR].home.directory / "statistics").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b'"sums":[', b'"sums":[7,'))
    ward[HARBOUR].set_policy(datasheet='"verdict"')
    federation = Federation(ward, rounds__count=1)
    found = verified(ward, ended(ward, federation))
    assert found.ok, list(found.lines())
    (body,) = told(ward, HARBOUR, federation)
    assert (body["verdict"], body["compared_with"]) == ("ready", None)
    digest = federation.study.digest[:16]
    asked = ("data", "quality", "--dir", ward[HARBOUR].home.directory, "--study", digest)
    code, said = run_command(capsys, *asked)
    assert code == 4
    assert f"statistics/{kept.name}: statistics: a list of 7 sums was due" in said.err
