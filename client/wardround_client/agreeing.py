"""Answers to `agree` and `keys`: a root with every peer of a session, once.

PROTOCOL.md, "Session". Both may be asked again and are answered as before; with another directory
or other secrets they are refused, since that would be two sets of masks for one run key.
"""

from wardround.errors import ProtocolViolation
from wardround.identity import Identity
from wardround.masking.agreement import Agreement, Encapsulation
from wardround.masking.directory import Directory
from wardround.protocol.messages import Agree, Agreed, Keyed, Keys, RefusalCode
from wardround_client.refusal import refusing
from wardround_client.session import RunSession


def agree(session: RunSession, question: Agree, *, identity: Identity, hospital: str) -> Agreed:
    """Check the directory; answer with a secret for each peer with a greater name.

    Raises StudyRefused for a key that no pinned identity signed, ours missing or replaced, and a
    second directory.
    """
    with refusing(RefusalCode.DIRECTORY):
        directory = Directory.from_json(
            list(question.directory),
            run=session.run,
            session=session.name,
            identity_keys=session.identity_keys,
        )
        agreement = _agreement(session, directory, hospital)
        encapsulations = agreement.encapsulations(identity)
    return Agreed(encapsulations=tuple(each.to_json() for each in encapsulations))


def finish(session: RunSession, question: Keys, *, hospital: str) -> Keyed:
    """Take the secrets of the peers with smaller names; from now on rounds can be masked.

    Raises StudyRefused when one is missing, not signed by its sender or not for this directory,
    and when others came before.
    """
    secrets = session.secrets
    with refusing(RefusalCode.DIRECTORY):
        if secrets.agreement is None:
            raise ProtocolViolation("keys: no directory came before them")
        if secrets.pairs is None:
            received = [Encapsulation.from_json(value) for value in question.encapsulations]
            secrets.pairs, secrets.keys = secrets.agreement.finish(received), question
            secrets.run_key = None
        elif secrets.keys != question:
            raise ProtocolViolation("keys: other ones came before in the same session")
    return Keyed(hospital=hospital)


def _agreement(session: RunSession, directory: Directory, hospital: str) -> Agreement:
    secrets = session.secrets
    if secrets.agreement is None:
        if secrets.run_key is None:
            raise ProtocolViolation("directory: it came after the session's end")
        secrets.agreement = Agreement(secrets.run_key, directory, hospital, session.identity_keys)
    elif secrets.agreement.directory.digest != directory.digest:
        raise ProtocolViolation("directory: a second one came for the same session")
    return secrets.agreement
