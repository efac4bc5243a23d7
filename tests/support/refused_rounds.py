"""A round that a hospital refuses: nothing is charged, and its log says so."""

from tests.support.hospitals import NAMES

from wardround.protocol.messages import Refusal

HARBOUR = NAMES[0]


def charged(talk):
    return len(talk.ward[HARBOUR].hospital.sessions["ab" * 16].ledger.releases())


def refused(talk, work, model):
    """The refusal; the ledger is as before, and the refused round is in the log."""
    before = charged(talk)
    answer, vector = talk.ward[HARBOUR].ask(work, model)
    assert isinstance(answer, Refusal), answer
    assert vector is None
    assert charged(talk) == before
    kind, body = talk.ward[HARBOUR].log_entries(talk.study)[-1]
    assert (kind, body["code"]) == ("round-refused", answer.code.value)
    return answer.code
