"""A hospital logs which layers its network has, whatever is done with it afterwards."""

import pytest
from tests.support import own_models
from tests.support.hospitals import NAMES, RUN, Ward

from wardround.audit.layer_kinds import APART
from wardround.protocol.messages import Joined, Refusal, RefusalCode

HARBOUR = NAMES[0]

MIXER = """
from torch import nn

def network(study):
    (features,) = study.contract.input_shape()
    norm = nn.BatchNorm1d(features, track_running_stats=False)
    return nn.Sequential(norm, nn.Linear(features, 1))
"""
BROKEN = """
def network(study):
    return "no network"
"""


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path / "ward", NAMES[:2])
    yield ward
    ward.close()


@pytest.fixture
def put(tmp_path, monkeypatch):
    def put(text):
        own_models.install(tmp_path / "site", text, points={own_models.NAME: "ward_net:network"})
        monkeypatch.syspath_prepend(tmp_path / "site")
        own_models.forget(monkeypatch)

    yield put
    own_models.forget(monkeypatch)


def test_the_network_of_a_study_is_logged_once_a_session(ward):
    talk = ward.talk()
    for session in (talk.session, "ef" * 16):
        assert isinstance(ward[HARBOUR].ask(talk.open_message(session=session))[0], Joined)
    found = [
        body for kind, body in ward[HARBOUR].log_entries(talk.study) if kind == "network-built"
    ]
    assert [(body["run"], body["session"]) for body in found] == [
        (RUN, talk.session),
        (RUN, "ef" * 16),
    ]
    assert set(found[0]["layers"]) <= APART


def test_an_own_model_that_mixes_patients_is_refused_when_the_run_opens(put, ward, caplog):
    """Without running statistics it keeps no buffer: its derivatives tell."""
    put(MIXER)
    talk = ward.talk(task=own_models.task(hidden=()))
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Refusal(code=RefusalCode.MODEL)
    assert "GroupNorm in place of BatchNorm" in caplog.text
    assert {"network-built", "run-joined"}.isdisjoint(dict(ward[HARBOUR].log_entries(talk.study)))


def test_a_model_that_cannot_be_built_is_refused_when_the_run_opens(put, ward):
    put(BROKEN)
    talk = ward.talk(task=own_models.task(hidden=()))
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Refusal(code=RefusalCode.MODEL)
    assert "run-joined" not in dict(ward[HARBOUR].log_entries(talk.study))
