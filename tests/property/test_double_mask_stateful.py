"""Any schedule of any coordinator: no hospital ever gives away two halves of one secret.

The coordinator keeps every vector, chooses survivors and vanished as it likes, asks twice, in any
order, in several attempts, and may read one hospital. Hospitals crash and are never seen again.
"""

from dataclasses import dataclass, field
from functools import cache

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.support.coordinator_view import View
from tests.support.masked_attempts import as_update, give, random_lanes
from tests.support.masked_hospitals import MaskedFleet, fleet, plain_sum

from wardround.errors import ProtocolViolation, QuorumMissed
from wardround.masking.coordinator_round import CoordinatorRound, Stage
from wardround.masking.hospital_round import HospitalRound, Upload
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import RoundSpec
from wardround.masking.survivors import SurvivorSet, SurvivorsRefused
from wardround.protocol.messages import Reveal, Revealed

NAMES = tuple(f"h{number:03d}" for number in range(5))
LANES = 4
cached_fleet = cache(fleet)
Survived = tuple[str, ...]
MANY = st.sampled_from([5, 5, 4, 2, 1])
FEW = st.one_of(st.just(set()), st.sets(st.sampled_from(NAMES), max_size=2))
TWO_FEWS = st.one_of(FEW.map(lambda few: [few]), st.lists(FEW, min_size=2, max_size=2))


@dataclass
class Tried:
    """One attempt, as far as it has come anywhere."""

    spec: RoundSpec
    view: View
    lanes: dict[str, Lanes]
    uploads: dict[str, Upload] = field(default_factory=dict)
    sets: dict[Survived, CoordinatorRound] = field(default_factory=dict)
    signed: dict[str, set[Survived]] = field(default_factory=dict)
    signatures: dict[Survived, dict[str, str]] = field(default_factory=dict)
    revealed: dict[str, list[Revealed]] = field(default_factory=dict)

    def with_survivors(self, survivors: Survived, keys: dict[str, bytes]) -> CoordinatorRound:
        """The coordinator that has taken the uploads of these and of nobody else."""
        if survivors not in self.sets:
            coordinator = CoordinatorRound(self.spec, keys)
            for name in survivors:
                upload = self.uploads[name]
                give(coordinator, name, as_update(upload), upload.packed.tobytes())
            self.sets[survivors] = coordinator
        return self.sets[survivors]


class AnyCoordinator(RuleBasedStateMachine):
    """Five hospitals that keep to the protocol, and a coordinator that need not."""

    @initialize(corrupt=st.sampled_from([(), (NAMES[4],)]))
    def enrol(self, corrupt: tuple[str, ...]) -> None:
        self.fleet: MaskedFleet = cached_fleet(len(NAMES)).renewed()
        self.keys = self.fleet.identity_keys
        self.corrupt = frozenset(corrupt)
        self.tried: list[Tried] = []
        self.present: dict[str, HospitalRound] = {}
        self.crashed: set[str] = set()
        self.began: dict[str, tuple[int, int]] = {}
        self.open_attempt(left_out=set(), next_round=False, bits=20)

    # --- what the coordinator does ------------------------------------------------------------

    @precondition(lambda self: len(self.tried) < 4)
    @rule(
        left_out=FEW,
        next_round=st.booleans(),
        bits=st.sampled_from([20, 24, 32]),
    )
    def open_attempt(self, left_out: set[str], next_round: bool, bits: int) -> None:
        number = self.tried[-1].spec.round + next_round if self.tried else 0
        cohort = [name for name in NAMES if name not in left_out]
        spec = self.fleet.spec(
            LANES, round=number, attempt=len(self.tried) + 1, cohort=cohort, bits=bits
        )
        view = View(spec.cohort, spec.threshold, self.corrupt & set(cohort))
        self.tried.append(Tried(spec, view, random_lanes(spec, len(self.tried))))

    @precondition(lambda self: self.tried)
    @rule(data=st.data())
    def send_work(self, data: st.DataObject) -> None:
        """To some or all, for any attempt; again, and in any order."""
        tried = data.draw(st.sampled_from([*self.tried, self.tried[-1]]))
        for name in data.draw(st.permutations(NAMES))[: data.draw(MANY)]:
            self._work(tried, name)

    @precondition(lambda self: any(tried.uploads for tried in self.tried))
    @rule(data=st.data())
    def send_survivors(self, data: st.DataObject) -> None:
        """Any two sets of those that uploaded, to any of them."""
        tried = data.draw(st.sampled_from([t for t in self.tried if t.uploads]))
        sets = [
            tuple(sorted(set(tried.uploads) - left_out or tried.uploads))
            for left_out in data.draw(TWO_FEWS)
        ]
        for name in data.draw(st.permutations(sorted(tried.uploads)))[: data.draw(MANY)]:
            self._survivors(tried, name, data.draw(st.sampled_from(sets)))

    @precondition(lambda self: any(tried.signed for tried in self.tried))
    @rule(data=st.data())
    def send_reveal(self, data: st.DataObject) -> None:
        """With all signatures that there are, for any vanished."""
        tried = data.draw(st.sampled_from([t for t in self.tried if t.signed]))
        vanished = tuple(sorted(data.draw(FEW)))
        for name in data.draw(st.permutations(sorted(tried.signed)))[: data.draw(MANY)]:
            sets = sorted(tried.signed[name]) * 3 + sorted(tried.signatures)
            self._reveal(tried, name, data.draw(st.sampled_from(sets)), vanished)

    @precondition(lambda self: any(tried.uploads for tried in self.tried))
    @rule(data=st.data(), victim=st.sampled_from(NAMES))
    def single_out(self, data: st.DataObject, victim: str) -> None:
        """The best that is known: the victim is a survivor for itself, and dropped for the rest."""
        tried = data.draw(st.sampled_from([t for t in self.tried if t.uploads]))
        everybody = tuple(sorted(tried.uploads))
        rest = tuple(name for name in everybody if name != victim) or everybody
        for name in everybody:
            self._survivors(tried, name, everybody if name == victim else rest)
        for name in everybody:
            for survivors in tried.signed.get(name, ()):
                self._reveal(tried, name, survivors, ())

    @precondition(lambda self: len(self.tried) > 1 and not self.crashed)
    @rule(hospital=st.sampled_from(NAMES))
    def crash(self, hospital: str) -> None:
        """Its secrets are gone with its memory; its identity and its records are not asked for."""
        self.crashed.add(hospital)
        self.present.pop(hospital, None)

    @precondition(lambda self: any(tried.signed for tried in self.tried))
    @rule(data=st.data())
    def open_a_sum(self, data: st.DataObject) -> None:
        """As the real coordinator does it, with whom it can still reach."""
        tried = data.draw(st.sampled_from([t for t in self.tried if t.signed]))
        sets = sorted({one for each in tried.signed.values() for one in each})
        survivors = data.draw(st.sampled_from(sets))
        coordinator = tried.with_survivors(survivors, self.keys)
        if coordinator.stage is not Stage.SIGNATURES:
            return
        try:
            asked = coordinator.close_signatures()
            while asked:
                for name, ask in asked.items():
                    revealed = self._answer(tried, name, ask)
                    if revealed is not None:
                        coordinator.take_reveal(name, revealed)
                asked = coordinator.still_needed()
        except QuorumMissed:
            event("void")
            return
        assert coordinator.open().tolist() == plain_sum(tried.lanes[name] for name in survivors)
        assert len(survivors) >= tried.spec.threshold
        honest = [part - self.corrupt for part in tried.view.open_sums()]
        assert [part for part in honest if part] == [set(survivors) - self.corrupt]
        event("opened")

    # --- what the hospitals answer --------------------------------------------------------------

    def _work(self, tried: Tried, name: str) -> None:
        if name in self.crashed:
            return
        asked = (tried.spec.place, tried.spec.attempt)
        try:
            part = self.fleet[name].begin(tried.spec)
        except ProtocolViolation:
            assert asked <= self.began.get(name, (0, 0)) or name not in tried.spec.cohort
            return
        assert asked > self.began.get(name, (0, 0))  # never a second vector, never back
        self.began[name] = asked
        if name in self.present:
            self.present[name].forget()
        self.present[name] = part
        tried.uploads[name] = part.upload(tried.lanes[name])
        tried.view.saw_upload(name)

    def _survivors(self, tried: Tried, name: str, survivors: Survived) -> None:
        coordinator = tried.with_survivors(survivors, self.keys)
        if len(survivors) >= tried.spec.threshold and coordinator.stage is Stage.UPLOADS:
            coordinator.close_uploads()
        signature = None
        if name in self.corrupt & set(survivors):
            transcript = tried.spec.transcript().hex()
            signature = SurvivorSet(transcript, survivors).sign(self.fleet[name].identity, name)
        elif name in self.present and name not in self.corrupt:
            try:
                part = self.present[name]
                messages = coordinator._survivor_messages()
                ask = messages.get(name, messages[survivors[0]])  # or what is for another
                signature = part.sign(part.check_survivors(ask, self.keys))
            except SurvivorsRefused:
                return
            tried.signed.setdefault(name, set()).add(survivors)
        if signature is not None:
            tried.signatures.setdefault(survivors, {})[name] = signature.hex()
        if signature is not None and coordinator.stage is Stage.SIGNATURES:
            coordinator.take_signature(name, signature)

    def _reveal(
        self, tried: Tried, name: str, survivors: Survived, vanished: tuple[str, ...]
    ) -> None:
        ask = Reveal(
            run=tried.spec.run,
            session=tried.spec.session,
            transcript=tried.spec.transcript().hex(),
            signatures=tried.signatures[survivors],
            vanished=vanished,
        )
        self._answer(tried, name, ask)

    def _answer(self, tried: Tried, name: str, ask: Reveal) -> Revealed | None:
        if name not in self.present:
            return None
        try:
            revealed = self.present[name].reveal(ask, self.keys)
        except SurvivorsRefused:
            return None
        tried.view.saw(name, revealed)
        tried.revealed.setdefault(name, []).append(revealed)
        return revealed

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def no_hospital_has_signed_two_sets_for_one_attempt(self) -> None:
        for tried in getattr(self, "tried", ()):
            assert all(len(sets) == 1 for sets in tried.signed.values())

    @invariant()
    def no_hospital_gives_both_masks_of_anybody(self) -> None:
        """Of itself and of each peer: the own mask, or masks of pairs, and never of both kinds."""
        for tried in getattr(self, "tried", ()):
            for name, answers in tried.revealed.items():
                [survivors] = tried.signed[name]
                of_self = {name, *(peer for one in answers for peer in one.shares)}
                of_pairs = {peer for one in answers for peer in one.pair_keys}
                assert of_self <= set(survivors)
                assert not of_pairs & set(survivors)

    @invariant()
    def no_sum_of_fewer_than_a_threshold_is_ever_determined(self) -> None:
        for tried in getattr(self, "tried", ()):
            honest = [part - self.corrupt for part in tried.view.open_sums()]
            due = tried.spec.threshold - len(self.corrupt)
            sums = [part for part in honest if part]
            assert len(sums) <= 1
            assert all(len(part) >= due >= tried.spec.minimum for part in sums)


TestAnyCoordinator = AnyCoordinator.TestCase
TestAnyCoordinator.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


# --- the view that the machine judges by can see what must not be -----------------------------

ABC = ("a", "b", "c", "d")


def view_of(*uploaded: str, corrupt: str = "") -> View:
    view = View(ABC, 3, frozenset(corrupt))
    for name in uploaded:
        view.saw_upload(name)
    return view


def revealing(*dropped: str, shares: tuple[str, ...] = ()) -> Revealed:
    words = ("00" * 36,) * (1 + len(dropped))
    return Revealed(
        self_key="00" * 32,
        pair_keys=dict.fromkeys(dropped, "00" * 32),
        shares=dict.fromkeys(shares, words),
    )


def test_masked_vectors_alone_open_nothing() -> None:
    assert view_of(*ABC).open_sums() == []
    assert view_of(*ABC, corrupt="d").open_sums() == [{"d"}]  # it has told what it sent


def test_the_view_opens_what_the_protocol_opens() -> None:
    view = view_of("a", "b", "c")
    for name in "abc":
        assert view.open_sums() == []
        view.saw(name, revealing("d"))
    assert view.open_sums() == [{"a", "b", "c"}]


def test_the_view_opens_by_shares() -> None:
    view = view_of(*ABC)
    for name in "abc":
        assert view.open_sums() == []
        view.saw(name, revealing(shares=("d",)))
    assert view.open_sums() == [set(ABC)]


def test_the_view_sees_a_hospital_that_gave_both_masks_of_itself() -> None:
    view = view_of(*ABC)
    view.saw("a", revealing("b", "c", "d"))
    assert view.open_sums() == [{"a"}]


def test_the_view_sees_two_survivor_sets() -> None:
    """The design's attack: one set with b and one without, both revealed."""
    view = view_of(*ABC)
    for name in ABC:
        view.saw(name, revealing())
    assert view.open_sums() == [set(ABC)]
    for name in "acd":
        view.saw(name, revealing("b"))
    assert {"b"} in view.open_sums()


def test_the_view_counts_the_shares_of_who_is_corrupt() -> None:
    view = view_of(*ABC, corrupt="d")
    for name in "bc":
        view.saw(name, revealing(shares=("a",)))
    assert view.knows_self("a")
    assert sorted(map(sorted, view.open_sums())) == [["a", "b", "c"], ["d"]]
