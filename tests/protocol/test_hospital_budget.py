"""A budget is one for all studies, is never forgotten, and is checked again before each round."""

import json
import shutil
from xml.etree import ElementTree as ET

import pytest
from tests.support.hospitals import NAMES, Ward

from wardround.cli import main as cli
from wardround.errors import VerificationFailed
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.mechanism import SampledGaussian
from wardround.protocol.messages import Failed, Joined, Refusal, RefusalCode, Update
from wardround_client.approval import approved_study
from wardround_client.ledger.budget import epsilon_of
from wardround_client.remaining import split_name, split_so_far

HARBOUR = NAMES[0]


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path, NAMES[:2])
    yield ward
    ward.close()


def asked_for_a_round(talk):
    """The code of the refusal; nothing was charged for it."""
    ledger = talk.ward[HARBOUR].hospital.sessions["ab" * 16].ledger
    before = len(ledger.releases())
    answer, vector = talk.ward[HARBOUR].ask(talk.work(talk.spec()), talk.model)
    assert isinstance(answer, Refusal), answer
    assert vector is None
    assert len(ledger.releases()) == before
    return answer.code


def test_what_another_study_takes_of_the_dataset_in_mid_run_counts_against_the_budget(ward):
    talk = ward.talk().open()
    session = ward[HARBOUR].hospital.sessions["ab" * 16]
    session.ledger.reserve(
        study_digest="f" * 64,
        run="cd" * 16,
        purpose="train",
        transcript="e" * 64,
        mechanism=SampledGaussian(0.6, 0.9, 20),
        units=100,
        split="another split of the same patients",
    )
    assert asked_for_a_round(talk) is RefusalCode.BUDGET


def test_a_budget_that_the_policy_lowers_in_mid_run_holds_at_once(ward):
    talk = ward.talk().open()
    ward[HARBOUR].set_policy(epsilon_budget="0.5")
    assert asked_for_a_round(talk) is RefusalCode.BUDGET


def one_round(talk):
    answer, _ = talk.ward[HARBOUR].ask(talk.work(talk.spec()), talk.model)
    assert isinstance(answer, Update), answer
    return talk.ward[HARBOUR].hospital.sessions["ab" * 16].ledger


def test_a_trial_run_of_another_setting_is_another_study_and_is_charged(ward):
    one_round(ward.talk().open())
    other = ward.talk(training__learning_rate=0.5)
    ledger = one_round(other.open())
    first, second = ledger.releases()
    assert first.study_digest != second.study_digest == other.study.digest
    charged = [first.charged, second.charged]
    assert charged[0] == charged[1]
    assert ledger.spent(1e-4) == epsilon_spent(charged, delta=1e-4)
    assert ledger.spent(1e-4) > epsilon_spent(charged[:1], delta=1e-4)


def restored_after(ward, rounds):
    """Ledger and mark as they were before the rounds, with evidence logs that know of them."""
    hospital = ward[HARBOUR]
    ledgers, kept = hospital.home.directory / "ledgers", ward.folder / "kept"
    hospital.home.ledger("fever-harbour").close()
    shutil.copytree(ledgers, kept)
    talk = ward.talk().open()
    for number in range(rounds):
        hospital.ask(talk.work(talk.spec(number)), talk.model)
    hospital.stop()
    shutil.rmtree(ledgers)
    shutil.copytree(kept, ledgers)
    return talk


def test_ledger_and_mark_restored_together_are_refused_by_what_the_evidence_logs_know(ward):
    talk = restored_after(ward, rounds=2)
    home = ward[HARBOUR].home
    ward[HARBOUR].restart()
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Failed(error="VerificationFailed")
    with pytest.raises(VerificationFailed, match=r"fever-harbour: it has 0 releases.* know of 2 "):
        home.ledger("fever-harbour")
    shutil.rmtree(home.directory / "ledgers")
    with pytest.raises(VerificationFailed, match="fever-harbour"):
        home.ledger("fever-harbour")
    assert cli.run(["budget", "show", "--dir", str(home.directory)]) == VerificationFailed.exit_code


def test_a_ledger_that_knows_all_that_was_logged_is_opened_after_a_restart(ward):
    talk = ward.talk().open()
    one_round(talk)
    ward[HARBOUR].restart()
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert isinstance(answer, Joined), answer
    # A release of another dataset is in another ledger; it is not missing from this one.
    ward[HARBOUR].home.ledger("lung-harbour").close()


def spend(home, study, number, noise=4.0):
    """Rounds of a study that were charged to fever-harbour."""
    with home.ledger("fever-harbour") as ledger:
        for place in range(number):
            ledger.reserve(
                study_digest=study.digest,
                run="cd" * 16,
                purpose="train",
                transcript=f"{place:064x}",
                mechanism=SampledGaussian(noise, 0.5, 2),
                units=100,
                split=split_so_far((), "fever-harbour", study.evaluation.held_out),
            )
        return ledger.releases()


def shown(ward, capsys, study):
    path = ward.folder / "signed.json"
    path.write_bytes(ward.signed(study))
    said(capsys, "review", "show", path, "--dir", ward[HARBOUR].home.directory)
    return study


def said(capsys, *arguments, code=0):
    ended = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert ended == code, captured.err
    return captured.out


def test_a_forecast_tabulates_rounds_against_epsilon_both_ways(ward, capsys):
    study = shown(ward, capsys, ward.study(title="Tabulated"))
    home = ward[HARBOUR].home
    spent = [release.charged for release in spend(home, study, 3)]
    given = ("--dir", home.directory, "--dataset", "fever-harbour")
    facts = json.loads(said(capsys, "budget", "forecast", study.digest, *given, "--json"))
    one, fits = study.release_of_one_attempt(), facts["rounds_that_fit"]

    def after(rounds):
        return epsilon_spent([*spent, *[one] * rounds], delta=1e-4)

    assert after(fits) <= facts["budget"] < after(fits + 1)
    assert fits in [row["rounds"] for row in facts["rounds"]]
    for row in facts["rounds"][:3]:
        assert row["epsilon_after"] == pytest.approx(after(row["rounds"]), abs=1e-9)
        assert row["epsilon_of_last"] == pytest.approx(
            after(row["rounds"]) - after(row["rounds"] - 1), abs=1e-9
        )
    assert facts["epsilons"][-1] == {"epsilon": facts["budget"], "rounds": fits}
    assert [row["rounds"] for row in facts["epsilons"]] == sorted(
        row["rounds"] for row in facts["epsilons"]
    )
    text = said(capsys, "budget", "forecast", study.digest, *given)
    assert f"room for {fits} more rounds" in text


def test_a_forecast_that_does_not_fit_still_says_how_many_rounds_would(ward, capsys):
    study = shown(ward, capsys, ward.study(title="Too late"))
    home = ward[HARBOUR].home
    spend(home, ward.study(title="Earlier"), 4, noise=0.6)
    given = ("--dir", home.directory, "--dataset", "fever-harbour")
    assert "room for 0 more rounds" in said(
        capsys, "budget", "forecast", study.digest, *given, code=6
    )


def test_the_picture_of_the_budget_names_studies_and_says_in_words_what_it_shows(ward, capsys):
    study = shown(ward, capsys, ward.study(title="Drawn"))
    home = ward[HARBOUR].home
    spend(home, study, 5)
    file = ward.folder / "budget.svg"
    said(capsys, "budget", "history", "--dir", home.directory, "--picture", file)
    text = file.read_text(encoding="utf-8")
    picture = ET.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    (described,) = picture.findall(f"{name}desc")
    with home.ledger("fever-harbour") as ledger:
        assert f"epsilon {ledger.spent(1e-4):.3f} of 10 spent in 5 releases" in described.text
    words = [element.text for element in picture.iter(f"{name}text")]
    assert any(word.startswith(study.name) for word in words)
    assert "budget 10" in words
    assert "script" not in text
    nowhere = ward.folder / "none" / "budget.svg"
    said(capsys, "budget", "history", "--dir", home.directory, "--picture", nowhere, code=4)


def test_with_another_patient_key_training_and_held_out_patients_are_added_up(ward):
    """The key decides who is held out: with another one a patient may have been both."""
    noised = {"evaluation__counts": "noised", "evaluation__epsilon": 2.0}
    study = ward.study(title="Two keys", **noised)
    ward[HARBOUR].approve(ward.signed(study))
    home, description = ward[HARBOUR].home, ward[HARBOUR].description

    def split():
        return split_name(approved_study(home, study).description, study.evaluation.held_out)

    before = split()
    description.write_text(description.read_text().replace("Forty patients", "The same forty"))
    assert split() == before
    description.write_text(description.read_text().replace('source = "id"', 'source = "stay"'))
    assert split() != before
    with home.ledger("fever-harbour") as ledger:
        for number, (purpose, name) in enumerate({"train": before, "evaluate": split()}.items()):
            ledger.reserve(
                study_digest=study.digest,
                run="cd" * 16,
                purpose=purpose,
                transcript=f"{number:064x}",
                mechanism=SampledGaussian(2.0, 1.0, 1),
                units=40,
                split=name,
            )
        releases = ledger.releases()
    assert split_so_far(releases, "fever-harbour", study.evaluation.held_out) == split()
    both = epsilon_spent([release.charged for release in releases], delta=1e-4)
    one = epsilon_of(releases[:1], delta=1e-4)
    assert epsilon_of(releases, delta=1e-4) == both > 1.3 * one
