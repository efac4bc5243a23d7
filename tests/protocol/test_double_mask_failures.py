"""Every failure case of the design that is somebody's absence, by its name; and every second sum.

The bytes are real, on both sides. Files and restarts are tested where they live, at the rims.
"""

import dataclasses
from collections.abc import Callable

import pytest
from tests.support.masked_attempts import MaskedAttempt, as_update, carried, give
from tests.support.masked_hospitals import MaskedFleet, fleet

from wardround.errors import ProtocolViolation, QuorumMissed
from wardround.masking.survivors import SecondSurvivorSet, SurvivorsRefused

LANES = 33
NAMES = [f"h{number:03d}" for number in range(7)]


@pytest.fixture(scope="module")
def seven_enrolled() -> MaskedFleet:
    return fleet(7)


@pytest.fixture
def seven(seven_enrolled: MaskedFleet) -> MaskedFleet:
    """Seven hospitals, of which five have to answer at every stage."""
    return seven_enrolled.renewed()


@pytest.fixture
def attempt(seven: MaskedFleet) -> MaskedAttempt:
    return MaskedAttempt(seven, seven.spec(LANES))


def nothing_was_opened(attempt: MaskedAttempt) -> bool:
    """Whether the attempt is void for good: it gives no sum and no key, and asks nobody."""
    coordinator = attempt.coordinator
    steps: tuple[Callable[[], object], ...] = (
        coordinator.close_uploads,
        coordinator.close_signatures,
        coordinator.still_needed,
        coordinator.open,
        coordinator.mask_keys,
        lambda: coordinator.sum_digest,
    )
    for step in steps:
        with pytest.raises(ProtocolViolation):
            step()
    return True


def another_attempt_opens(attempt: MaskedAttempt) -> bool:
    spec = dataclasses.replace(attempt.spec, attempt=attempt.spec.attempt + 1)
    again = MaskedAttempt(attempt.fleet, spec)
    return again.run() == again.plain()


# --- who goes away -------------------------------------------------------------------------------


def test_fewer_than_t_uploads(attempt: MaskedAttempt) -> None:
    attempt.upload(*NAMES[:4])
    with pytest.raises(QuorumMissed, match="4 of 7 hospitals uploaded, 5 were due; without h004"):
        attempt.close_uploads()
    assert nothing_was_opened(attempt)
    assert another_attempt_opens(attempt)


def test_a_drop_out_before_m1(attempt: MaskedAttempt) -> None:
    assert attempt.run(dropped=["h000", "h006"]) == attempt.plain(NAMES[1:6])
    assert attempt.coordinator.missing == ("h000", "h006")


def test_a_drop_out_between_m1_and_m3(attempt: MaskedAttempt) -> None:
    assert attempt.run(unsigned=["h000", "h006"]) == attempt.plain(NAMES)
    assert attempt.coordinator.vanished == ("h000", "h006")


def test_a_drop_out_between_m3_and_m5(attempt: MaskedAttempt) -> None:
    assert attempt.run(silent=["h000", "h006"]) == attempt.plain(NAMES)
    assert attempt.coordinator.vanished == ("h000", "h006")


def test_a_drop_out_at_every_stage(seven: MaskedFleet) -> None:
    federation = fleet(10)
    attempt = MaskedAttempt(federation, federation.spec(LANES))
    got = attempt.run(dropped=["h003"], unsigned=["h000"], silent=["h009"])
    assert got == attempt.plain(sorted(set(federation.names) - {"h003"}))


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_fewer_than_t_signatures(attempt: MaskedAttempt, dropped: int) -> None:
    attempt.upload(*NAMES[dropped:])
    attempt.close_uploads()
    attempt.sign(*NAMES[dropped : dropped + 4])
    with pytest.raises(QuorumMissed, match="4 of 7 hospitals signed, 5 were due; without h00"):
        attempt.close_signatures()
    assert nothing_was_opened(attempt)
    assert another_attempt_opens(attempt)


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_fewer_than_t_reveals(attempt: MaskedAttempt, dropped: int) -> None:
    attempt.upload(*NAMES[dropped:])
    attempt.close_uploads()
    attempt.sign(*NAMES[dropped:])
    attempt.close_signatures()
    attempt.reveal(*NAMES[dropped : dropped + 4])
    with pytest.raises(QuorumMissed, match="4 of 7 hospitals revealed, 5 were due; without h00"):
        attempt.ask_again()
    assert nothing_was_opened(attempt)
    assert another_attempt_opens(attempt)


def test_drop_outs_after_the_second_request_leave_too_few_shares(attempt: MaskedAttempt) -> None:
    attempt.upload(*NAMES)
    attempt.close_uploads()
    attempt.sign(*NAMES)
    attempt.close_signatures()
    attempt.reveal(*NAMES[:6])
    assert attempt.ask_again()
    attempt.reveal(*NAMES[:4])
    with pytest.raises(QuorumMissed, match="fewer than 5 readable shares for h006"):
        attempt.ask_again()
    assert nothing_was_opened(attempt)


def test_a_late_upload_after_the_deadline(attempt: MaskedAttempt) -> None:
    """It is not in the sum, and its pair keys are revealed: its own mask still hides it."""
    attempt.upload(*NAMES[:6])
    attempt.close_uploads()
    with pytest.raises(ProtocolViolation, match=r"update of h006: .* is at signatures"):
        attempt.upload("h006")
    assert attempt.coordinator.faults == {}
    attempt.sign(*NAMES[:6])
    attempt.close_signatures()
    attempt.reveal(*NAMES[:6])
    assert not attempt.ask_again()
    assert attempt.coordinator.open().tolist() == attempt.plain(NAMES[:6])
    late = attempt.rounds["h006"]
    with pytest.raises(SurvivorsRefused, match="h006 is not among them"):
        late.check_survivors(attempt.survivors["h000"], attempt.fleet.identity_keys)


# --- a coordinator that wants more than one sum ---------------------------------------------------


def asked_with(attempt: MaskedAttempt, survivors: list[str]) -> MaskedAttempt:
    """A coordinator with the same uploads that has chosen other survivors."""
    other = MaskedAttempt(attempt.fleet, attempt.spec, attempt.lanes)
    other.rounds = attempt.rounds
    for name in survivors:
        upload = attempt.uploads[name]
        give(other.coordinator, name, as_update(upload), upload.packed.tobytes())
    other.close_uploads()
    return other


def test_a_second_u(attempt: MaskedAttempt) -> None:
    attempt.upload(*NAMES)
    first, second = asked_with(attempt, NAMES), asked_with(attempt, NAMES[:6])
    first.sign("h000")
    with pytest.raises(SecondSurvivorSet, match="another set was signed"):
        second.sign("h000")
    first.sign("h000")  # the first again: the same answer
    second.sign("h001")
    with pytest.raises(SecondSurvivorSet):
        first.sign("h001")


def test_no_two_sums_open_though_the_coordinator_splits_the_hospitals(
    attempt: MaskedAttempt,
) -> None:
    attempt.upload(*NAMES)
    first, second = asked_with(attempt, NAMES), asked_with(attempt, NAMES[:6])
    first.sign(*NAMES[3:])
    second.sign(*NAMES[:3])
    for half, came in ((first, 4), (second, 3)):
        with pytest.raises(QuorumMissed, match=f"{came} of 7 hospitals signed, 5 were due"):
            half.close_signatures()


def test_signatures_of_two_sets_do_not_add_up(attempt: MaskedAttempt) -> None:
    attempt.upload(*NAMES)
    first, second = asked_with(attempt, NAMES), asked_with(attempt, NAMES[:6])
    first.sign(*NAMES[2:])
    first.close_signatures()
    second.sign("h000", "h001")
    mixed = dict(first.coordinator.signatures) | second.coordinator.signatures
    ask = first.reveals["h002"].model_copy(update={"signatures": mixed})
    with pytest.raises(SurvivorsRefused, match="signature of h000 is not of this set"):
        attempt.rounds["h002"].reveal(carried(ask), attempt.fleet.identity_keys)
    four = {name: mixed[name] for name in NAMES[2:6]}
    ask = first.reveals["h002"].model_copy(update={"signatures": four})
    with pytest.raises(SurvivorsRefused, match="4 signatures, 5 were due"):
        attempt.rounds["h002"].reveal(carried(ask), attempt.fleet.identity_keys)


def test_a_hospital_listed_as_survivor_and_drop_out(attempt: MaskedAttempt) -> None:
    """Of one peer either its own mask key is shared out or its pair keys are, never both."""
    attempt.upload(*NAMES[:6])
    attempt.close_uploads()
    attempt.sign(*NAMES[:6])
    attempt.close_signatures()
    own, keys = attempt.rounds["h000"], attempt.fleet.identity_keys
    for vanished, reason in (
        (("h006",), "not all that vanished are other survivors"),  # its b, when its k is revealed
        (("h005", "h006"), "not all that vanished are other survivors"),
        (("h000",), "not all that vanished are other survivors"),
        (("h004", "h005"), "2 vanished, fewer than 5 are left"),
    ):
        ask = attempt.reveals["h000"].model_copy(update={"vanished": vanished})
        with pytest.raises(SurvivorsRefused, match=reason):
            own.reveal(carried(ask), keys)
    ask = attempt.reveals["h000"].model_copy(update={"vanished": ("h005",)})
    revealed = own.reveal(carried(ask), keys)
    assert list(revealed.pair_keys) == ["h006"]
    assert {name: len(shares) for name, shares in revealed.shares.items()} == {"h005": 2}


def test_nothing_is_revealed_before_a_set_is_signed(attempt: MaskedAttempt) -> None:
    attempt.upload(*NAMES)
    attempt.close_uploads()
    attempt.sign(*NAMES[1:])
    attempt.close_signatures()
    with pytest.raises(SurvivorsRefused, match="no survivors were signed"):
        attempt.rounds["h000"].reveal(attempt.reveals["h001"], attempt.fleet.identity_keys)
