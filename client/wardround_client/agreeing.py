"""Answers to `agree` and `keys`: a root with every peer of a session, once.

PROTOCOL 3. Both may be asked again and are answered as before; with another directory
or other secrets they are refused, since that would be two sets of masks for one run key.
"""

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.identity import Identity
from wardround.masking.agreement import Agreement, Encapsulation
from wardround.masking.directory import Directory
from wardround.masking.run_key import SignedRunKey
from wardround.protocol.messages import Agree, Agreed, Keyed, Keys, RefusalCode
from wardround_client.refusal import StudyRefused, refusing
from wardround_client.session import RunSession


def agree(session: RunSession, question: Agree, *, identity: Identity, hospital: str) -> Agreed:
    """Check the directory; answer with a secret for each peer with a greater name.

    Raises StudyRefused for a key that no pinned identity signed, with whose it was said to be;
    for ours missing or replaced, and a second directory.
    """
    directory = _directory(session, question)
    with refusing(RefusalCode.DIRECTORY):
        agreement = _agreement(session, directory, hospital)
        encapsulations = agreement.encapsulations(identity)
    return Agreed(encapsulations=tuple(each.to_json() for each in encapsulations))


def finish(session: RunSession, question: Keys, *, hospital: str) -> Keyed:
    """Take the secrets of the peers with smaller names; from now on rounds can be masked.

    Raises StudyRefused when one is missing, not signed by its sender or not for this directory,
    with the sender then, and when others came before.
    """
    secrets = session.secrets
    with refusing(RefusalCode.DIRECTORY):
        if secrets.agreement is None:
            raise ProtocolViolation("keys: no directory came before them")
        if secrets.pairs is None:
            received = [Encapsulation.from_json(value) for value in question.encapsulations]
            _refuse_a_wrong_secret(session, secrets.agreement.directory, received, hospital)
            secrets.pairs, secrets.keys = secrets.agreement.finish(received), question
            secrets.run_key = None
        elif secrets.keys != question:
            raise ProtocolViolation("keys: other ones came before in the same session")
    return Keyed(hospital=hospital)


def _directory(session: RunSession, question: Agree) -> Directory:
    try:
        return Directory.from_json(
            list(question.directory),
            run=session.run,
            session=session.name,
            identity_keys=session.identity_keys,
        )
    except ProtocolViolation as error:
        raise StudyRefused(
            RefusalCode.DIRECTORY, str(error), hospital=_whose_key(session, question.directory)
        ) from error


def _whose_key(session: RunSession, directory: tuple[Json, ...]) -> str | None:
    """The first hospital of the roster whose entry is not its own for this session."""
    for value in directory:
        name = value.get("hospital")
        if not isinstance(name, str) or name not in session.identity_keys:
            continue
        try:
            entry = SignedRunKey.from_json(value)
            entry.check(session.identity_keys[name])
        except ProtocolViolation:
            return name
        if (entry.run, entry.session) != (session.run, session.name):
            return name
    return None


def _refuse_a_wrong_secret(
    session: RunSession, directory: Directory, received: list[Encapsulation], hospital: str
) -> None:
    """Name the peer whose secret is not its own, or not for us. Raises StudyRefused."""
    for one in received:
        if one.sender not in directory.names:
            continue  # `finish` says that nobody of that name was due
        try:
            one.check(directory, session.identity_keys[one.sender], recipient=hospital)
        except ProtocolViolation as error:
            raise StudyRefused(RefusalCode.DIRECTORY, str(error), hospital=one.sender) from error


def _agreement(session: RunSession, directory: Directory, hospital: str) -> Agreement:
    secrets = session.secrets
    if secrets.agreement is None:
        if secrets.run_key is None:
            raise ProtocolViolation("directory: it came after the session's end")
        secrets.agreement = Agreement(secrets.run_key, directory, hospital, session.identity_keys)
    elif secrets.agreement.directory.digest != directory.digest:
        raise ProtocolViolation("directory: a second one came for the same session")
    return secrets.agreement
