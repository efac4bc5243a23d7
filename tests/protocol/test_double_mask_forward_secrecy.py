"""What is kept of an attempt opens no mask of it: roots only move on, and its secrets go."""

import gc
from collections.abc import Iterable

import pytest
from tests.support.masked_attempts import MaskedAttempt
from tests.support.masked_hospitals import MaskedFleet, fleet

from wardround.errors import ProtocolViolation
from wardround.masking.derivation import expand_key
from wardround.masking.hospital_round import HospitalRound
from wardround.masking.pairs import PairSecrets, RoundSecrets
from wardround.masking.survivors import SurvivorsRefused


@pytest.fixture
def three() -> MaskedFleet:
    return fleet(3)


def kept_by(*objects: object) -> set[bytes]:
    """Every byte string that can be reached from these objects."""
    found: set[bytes] = set()
    seen: set[int] = set()
    waiting = list(objects)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        if isinstance(one, bytes):
            found.add(one)
        elif isinstance(
            one, dict | list | tuple | set | PairSecrets | RoundSecrets | HospitalRound
        ):
            waiting += gc.get_referents(one)
    return found


def derivable(kept: Iterable[bytes], transcript: bytes, steps: int = 4) -> set[bytes]:
    """Every pair key of `transcript` that what is kept gives, as a root or steps before one."""
    found = set()
    roots = {key for key in kept if len(key) == 32}
    for _ in range(steps):
        found |= {expand_key(root, purpose=b"mask", context=transcript) for root in roots}
        ways = (b"ratchet", b"attempt")
        roots = {expand_key(root, purpose=way, context=b"") for root in roots for way in ways}
    return found


def stepped(roots: dict[str, bytes], purpose: bytes) -> dict[str, bytes]:
    return {peer: expand_key(r, purpose=purpose, context=b"") for peer, r in roots.items()}


def test_the_roots_of_what_comes_later_are_hashes_of_the_earlier_ones(three: MaskedFleet) -> None:
    secrets = three.hospitals[0].secrets
    roots = dict(secrets._roots)
    given = secrets.round_secrets(three.spec(1, round=2, attempt=2))
    assert secrets.place == 3
    for _ in range(3):
        roots = stepped(roots, b"ratchet")
    of_attempt = stepped(roots, b"attempt")
    spec = three.spec(1, round=2, attempt=2)
    assert given.pair_keys == {
        peer: expand_key(root, purpose=b"mask", context=spec.transcript())
        for peer, root in of_attempt.items()
    }
    assert secrets._roots == stepped(of_attempt, b"attempt")
    assert secrets._later == stepped(roots, b"ratchet")


def test_once_they_are_given_nothing_kept_derives_the_secrets_of_an_attempt_again(
    three: MaskedFleet,
) -> None:
    own = three.hospitals[0]
    spec = three.spec(1, round=1)
    transcript = spec.transcript()
    before = kept_by(own.secrets)
    given = own.secrets.round_secrets(spec)
    masks = set(given.pair_keys.values())
    shares = {*given.share_in.values(), *given.share_out.values()}
    assert masks <= derivable(before, transcript)  # so the test can fail
    for later in (None, three.spec(1, round=1, attempt=2), three.spec(1, round=2)):
        if later is not None:
            own.secrets.round_secrets(later)
        kept = kept_by(own.secrets)
        assert len(kept) > 2
        assert not masks & (kept | derivable(kept, transcript))
        assert not shares & kept


def test_who_steals_a_memory_after_the_signature_opens_no_update_with_all_that_travelled() -> None:
    """The coordinator has every vector and, by the reveals, every hospital's own mask key.

    What is left on a hospital's vector are the masks of its pairs.
    """
    four = fleet(4)
    attempt = MaskedAttempt(four, four.spec(2))
    attempt.upload("h000", "h001", "h002")
    attempt.close_uploads()
    own, transcript = attempt.rounds["h000"], attempt.spec.transcript()
    pairs = four["h000"].secrets
    within = {own._secrets.pair_keys[peer] for peer in ("h001", "h002")}
    assert within <= kept_by(own, pairs)  # before it: so the test can fail
    attempt.sign("h000", "h001", "h002")
    attempt.close_signatures()
    attempt.reveal("h000", "h001", "h002")
    stolen = kept_by(own, pairs)
    assert not within & (stolen | derivable(stolen, transcript))


def test_a_place_that_is_over_gets_no_secrets_any_more(three: MaskedFleet) -> None:
    secrets = three.hospitals[0].secrets
    secrets.round_secrets(three.spec(1, round=4))
    for changes in ({"round": 3}, {"round": 0}, {"purpose": "statistics", "round": 0}):
        with pytest.raises(ProtocolViolation, match="forgotten, attempt 2 at place 5 of the run"):
            secrets.round_secrets(three.spec(1, **changes))
    secrets.round_secrets(three.spec(1, round=4, attempt=2))


def test_hospitals_that_sat_rounds_out_still_agree(three: MaskedFleet) -> None:
    """A place is the round's, not a count of what one has answered."""
    three.hospitals[0].secrets.round_secrets(three.spec(1, round=0, cohort=["h000", "h001"]))
    three.hospitals[1].secrets.round_secrets(three.spec(1, purpose="statistics", round=0))
    attempt = MaskedAttempt(three, three.spec(5, round=6))
    assert attempt.run() == attempt.plain()


def test_with_its_signature_a_hospital_forgets_the_keys_within_the_sum(
    three: MaskedFleet,
) -> None:
    federation = fleet(4)
    attempt = MaskedAttempt(federation, federation.spec(2))
    attempt.upload("h000", "h001", "h002")
    own = attempt.rounds["h000"]
    keys = dict(own._secrets.pair_keys)
    assert set(keys.values()) <= kept_by(own)
    attempt.close_uploads()
    attempt.sign("h000", "h001", "h002")
    assert kept_by(own) & set(keys.values()) == {keys["h003"]}


def test_a_forgotten_attempt_holds_no_secret_and_answers_nothing(three: MaskedFleet) -> None:
    federation = fleet(4)
    attempt = MaskedAttempt(federation, federation.spec(2))
    attempt.upload("h000", "h001", "h002")
    attempt.close_uploads()
    own = attempt.rounds["h000"]
    secrets = {own._self_key, *own._secrets.pair_keys.values(), *own._secrets.share_in.values()}
    attempt.sign("h000", "h001", "h002")
    attempt.close_signatures()
    attempt.reveal("h000")
    own.forget()
    assert not secrets & kept_by(own)
    own.forget()  # once more is fine
    for refused in (
        lambda: own.check_survivors(attempt.survivors["h000"], federation.identity_keys),
        lambda: own.reveal(attempt.reveals["h000"], federation.identity_keys),
    ):
        with pytest.raises(SurvivorsRefused, match="its secrets are forgotten"):
            refused()
    with pytest.raises(ProtocolViolation, match="its secrets are forgotten"):
        own.upload(attempt.lanes["h000"])


def test_with_one_trip_the_upload_leaves_no_secret_of_the_attempt(three: MaskedFleet) -> None:
    own = three.hospitals[0].begin(three.spec(2, profile="one-trip"))
    keys = set(own._secrets.pair_keys.values())
    own.upload(MaskedAttempt(three, own.spec).lanes["h000"])
    assert not keys & kept_by(own)
