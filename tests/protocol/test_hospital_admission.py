"""What a hospital refuses before it reads a record: consent, policy and budget come first."""

import pytest
from tests.support.hospitals import NAMES, RUN, Ward

from wardround.canonical import parse_canonical
from wardround.code_digest import OF_HOSPITAL, code_digests
from wardround.errors import BadInput, RefusedByPolicy
from wardround.identity import Identity
from wardround.protocol.messages import Joined, Refusal, RefusalCode
from wardround.study.files import sign_study

HARBOUR = NAMES[0]


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path, NAMES[:2])
    yield ward
    ward.close()


@pytest.fixture
def talk(ward):
    return ward.talk()


def as_json(content):
    return parse_canonical(content, what="study", limit_bytes=1 << 20)


def without_data(ward):
    """From here on a hospital that touches its records fails with `data-not-ready`."""
    (ward[HARBOUR].data / "patients.csv").unlink()


def refusal(hospital, question):
    answer, vector = hospital.ask(question)
    assert isinstance(answer, Refusal), answer
    assert vector is None
    return answer


def test_an_approved_study_is_joined_with_the_epsilon_of_its_whole_plan(ward, talk):
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert isinstance(answer, Joined)
    assert 2.9 < answer.epsilon_planned <= 3.0
    kinds = [kind for kind, _ in ward[HARBOUR].log_entries(talk.study)]
    assert kinds == ["study-approved", "run-joined", "network-built", "checkpoint-witnessed"]


def test_a_study_that_nobody_approved_is_refused_before_a_record_is_read(ward, talk):
    without_data(ward)
    talk.study = ward.study(title="Fever, extended")
    answer = refusal(ward[HARBOUR], talk.open_message())
    assert answer.code is RefusalCode.NOT_APPROVED


def test_people_hear_once_of_a_refusal_that_is_asked_for_again_and_again(ward, talk, caplog):
    talk.study = ward.study(title="Fever, extended")
    for _ in range(3):
        refusal(ward[HARBOUR], talk.open_message())
    assert sum("refused: study-not-approved" in line for line in caplog.messages) == 1
    ward[HARBOUR].approve(ward.signed(talk.study))
    ward[HARBOUR].ask(talk.open_message())
    ward[HARBOUR].home.approvals().joinpath(f"{talk.study.digest}.json").unlink()
    refusal(ward[HARBOUR], talk.open_message())
    assert sum("refused: study-not-approved" in line for line in caplog.messages) == 2


def test_a_study_that_changed_by_one_character_is_another_study(ward, talk):
    changed = ward.study(contact="research@example.orh")
    message = talk.open_message(signed_study=as_json(ward.signed(changed)))
    assert refusal(ward[HARBOUR], message).code is RefusalCode.NOT_APPROVED


def test_a_study_whose_bytes_were_changed_after_signing_is_refused(ward, talk):
    signed = as_json(ward.signed(talk.study))
    signed["study"]["privacy"]["epsilon"] = 30
    message = talk.open_message(signed_study=signed)
    assert refusal(ward[HARBOUR], message).code is RefusalCode.BAD_STUDY


def test_a_study_signed_by_another_key_is_refused_and_not_kept(ward, talk):
    without_data(ward)
    foreign = sign_study(ward.study(title="Foreign"), Identity.generate())
    answer = refusal(ward[HARBOUR], talk.open_message(signed_study=as_json(foreign)))
    assert answer.code is RefusalCode.BAD_STUDY
    assert len(list(ward[HARBOUR].home.studies().iterdir())) == 1


def test_a_roster_with_another_fingerprint_for_this_hospital_is_refused(ward, talk):
    roster = [entry.model_dump() for entry in talk.study.roster]
    roster[0]["fingerprint"] = "0" * 64
    study = talk.study.model_copy(
        update={"roster": tuple(type(talk.study.roster[0])(**e) for e in roster)}
    )
    message = talk.open_message(signed_study=as_json(ward.signed(study)))
    assert refusal(ward[HARBOUR], message).code is RefusalCode.NOT_ON_ROSTER


def test_a_study_without_this_hospital_is_refused(ward, talk):
    first, *others = talk.study.roster
    stranger = first.model_copy(update={"name": "stranger", "fingerprint": "0" * 64})
    study = talk.study.model_copy(update={"roster": (stranger, *others)})
    message = talk.open_message(signed_study=as_json(ward.signed(study)))
    assert refusal(ward[HARBOUR], message).code is RefusalCode.NOT_ON_ROSTER


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("delta_max", "1e-5"),
        ("mechanisms", "[]"),
        ("minimum_hospitals", "3"),
        ("allow_exact_evaluation", "false"),
    ],
)
def test_a_policy_that_became_stricter_after_approval_refuses(ward, talk, line, value):
    without_data(ward)
    ward[HARBOUR].set_policy(**{line: value})
    assert refusal(ward[HARBOUR], talk.open_message()).code is RefusalCode.POLICY


def test_a_budget_that_is_too_small_is_refused_with_the_epsilon_that_fits(ward, talk):
    without_data(ward)
    ward[HARBOUR].set_policy(epsilon_budget="1.0")
    answer = refusal(ward[HARBOUR], talk.open_message())
    assert answer.code is RefusalCode.BUDGET
    assert 0.9 < answer.epsilon_that_fits <= 1.0


def test_the_epsilon_that_fits_does_fit(ward, talk):
    ward[HARBOUR].set_policy(epsilon_budget="1.0")
    fits = refusal(ward[HARBOUR], talk.open_message()).epsilon_that_fits
    smaller = ward.talk(privacy__epsilon=fits)
    answer, _ = ward[HARBOUR].ask(smaller.open_message())
    assert isinstance(answer, Joined)
    assert answer.epsilon_planned <= 1.0


def test_noised_evaluation_is_checked_against_the_budget_also_without_training_noise(ward):
    talk = ward.talk(
        privacy__mechanism="none", evaluation__counts="noised", evaluation__epsilon=2.0
    )
    without_data(ward)
    ward[HARBOUR].set_policy(epsilon_budget="1.0")
    assert refusal(ward[HARBOUR], talk.open_message()).code is RefusalCode.BUDGET


def test_records_that_do_not_fit_the_contract_are_refused_last_of_all(ward, talk):
    without_data(ward)
    assert refusal(ward[HARBOUR], talk.open_message()).code is RefusalCode.DATA


def test_a_description_that_was_broken_after_approval_is_a_refusal_not_a_failure(ward, talk):
    ward[HARBOUR].description.write_text("schema = 1")
    assert refusal(ward[HARBOUR], talk.open_message()).code is RefusalCode.DATA


def test_a_paused_hospital_says_so_and_joins_again_when_it_is_resumed(ward, talk):
    flag = ward[HARBOUR].home.directory / "paused"
    flag.touch()
    assert refusal(ward[HARBOUR], talk.open_message()).code is RefusalCode.PAUSED
    flag.unlink()
    assert isinstance(ward[HARBOUR].ask(talk.open_message())[0], Joined)


@pytest.mark.parametrize("keys", ["replaced", "missing"])
def test_an_identity_key_that_is_not_the_rosters_is_refused_before_the_records(ward, talk, keys):
    without_data(ward)
    sent = dict(talk.open_message().identity_keys)
    if keys == "missing":
        del sent[NAMES[1]]
    else:
        sent[NAMES[1]] = Identity.generate().public_key.hex()
    answer = refusal(ward[HARBOUR], talk.open_message(identity_keys=sent))
    assert answer.code is RefusalCode.DIRECTORY


def test_a_head_that_another_key_signed_is_refused(ward, talk):
    other = Ward.make(ward.folder / "other")
    note = other.new_log().checkpoint()
    other.close()
    answer = refusal(ward[HARBOUR], talk.open_message(checkpoint=note))
    assert answer.code is RefusalCode.HISTORY


def test_a_dataset_that_is_accounted_per_patient_takes_no_study_per_record(ward, talk):
    talk.open()
    hospital = ward[HARBOUR]
    hospital.ask(talk.work(talk.spec()), talk.model)
    hospital.stop()
    for other in ward.hospitals.values():
        other.set_policy(allow_record_unit="true")
    record = ward.talk(title="Per record", privacy__unit="record")
    assert refusal(hospital, record.open_message()).code is RefusalCode.POLICY


def test_what_a_hospital_does_not_understand_gets_a_code_and_no_text(ward, talk):
    answer = refusal(ward[HARBOUR], Refusal(code=RefusalCode.DATA))
    assert answer.code is RefusalCode.NO_SESSION
    assert set(answer.model_dump()) == {"code", "epsilon_that_fits", "hospital"}


def test_approval_needs_a_description_of_this_hospital(ward):
    study = ward.study()
    ward[HARBOUR].description.write_text(ward[NAMES[1]].description.read_text())
    with pytest.raises(BadInput, match=f"describes data of {NAMES[1]}, not {HARBOUR}"):
        ward[HARBOUR].approve(ward.signed(study))
    assert not list(ward[HARBOUR].home.approvals().iterdir())


def test_one_table_under_two_names_would_be_two_budgets_and_is_not_approved(ward, talk):
    hospital, another = ward[HARBOUR], ward.study(title="Fever, again")
    own = hospital.description
    hospital.description = own.with_name("renamed.toml")
    hospital.description.write_text(own.read_text().replace("fever-harbour", "warm-harbour"))
    with pytest.raises(BadInput, match="its table is approved as dataset fever-harbour already"):
        hospital.approve(ward.signed(another))
    # Other rows of the same file are other patients, and what is gone stops nobody.
    rows = '[[rows]]\nsource = "male"\nvalues = ["1"]\n'
    hospital.description.write_text(hospital.description.read_text() + rows)
    hospital.approve(ward.signed(another))


def test_a_study_against_the_policy_cannot_be_approved_and_every_reason_is_named(ward):
    ward[HARBOUR].set_policy(delta_max="1e-5", allow_exact_evaluation="false")
    with pytest.raises(RefusedByPolicy, match=r"privacy\.delta .*; evaluation\.counts exact"):
        ward[HARBOUR].approve(ward.signed(ward.study()))


def test_approving_twice_is_refused_and_a_withdrawn_approval_can_be_given_again(ward):
    study = ward.study()
    signed, hospital = ward.signed(study), ward[HARBOUR]
    hospital.approve(signed)
    with pytest.raises(BadInput, match="approved already"):
        hospital.approve(signed)
    from wardround_client.approval import kept_studies, withdraw

    withdraw(hospital.home, study)
    assert [approved for _, approved in kept_studies(hospital.home)] == [False]
    hospital.approve(signed)
    assert [kind for kind, _ in hospital.log_entries(study)] == ["study-approved"] * 2


def test_a_study_that_is_approved_anew_beside_a_running_hospital_can_still_be_joined(ward, talk):
    """`review approve` writes into the same evidence log from another process."""
    from wardround_client.approval import withdraw

    hospital = ward[HARBOUR]
    assert isinstance(hospital.ask(talk.open_message())[0], Joined)
    withdraw(hospital.home, talk.study)
    assert refusal(hospital, talk.open_message()).code is RefusalCode.NOT_APPROVED
    hospital.approve(ward.signed(talk.study))
    assert isinstance(hospital.ask(talk.open_message(session="ef" * 16))[0], Joined)


def test_the_evidence_of_joining_names_run_session_and_planned_epsilon(ward, talk):
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    joined = dict(ward[HARBOUR].log_entries(talk.study))["run-joined"]
    assert joined == {
        "run": RUN,
        "session": talk.session,
        "study_digest": talk.study.digest,
        "epsilon_planned": answer.epsilon_planned,
        "code_digest": code_digests(OF_HOSPITAL),
    }
