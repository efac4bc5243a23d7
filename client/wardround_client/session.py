"""What a hospital holds in memory between opening a session and the end of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wardround.canonical import Json, canonical_bytes
from wardround.durable import write_durably
from wardround.errors import ProtocolViolation
from wardround.masking.directory import Directory
from wardround.masking.pairs import PairSecrets
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.masking.run_key import RunKey
from wardround.protocol.messages import RefusalCode
from wardround.protocol.specs import statistics_noise_lanes
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.scaling import standardisations
from wardround.study.manifest import Mechanism, Study
from wardround_client.approval import ApprovedStudy
from wardround_client.home import HospitalHome, read_state
from wardround_client.ledger import Ledger
from wardround_client.records import StudyRecords, standardised
from wardround_client.refusal import StudyRefused
from wardround_client.training.noise import NoiseProbe
from wardround_client.witness import StudyEvidence


@dataclass(slots=True)
class RunSession:
    """One run at this hospital. Run key and pair secrets die with the process."""

    approved: ApprovedStudy
    run: str
    name: str
    identity_keys: Mapping[str, bytes]
    run_key: RunKey = field(repr=False)
    records: StudyRecords = field(repr=False)
    ledger: Ledger = field(repr=False)
    evidence: StudyEvidence = field(repr=False)
    budget_basis: tuple[str, int]
    released: ReleasedStatistics | None = field(default=None, repr=False)
    noise_probes: list[NoiseProbe] = field(default_factory=list, repr=False)
    _pairs: PairSecrets | None = field(default=None, repr=False)

    @property
    def study(self) -> Study:
        """The approved study."""
        return self.approved.study

    def pairs(self, directory: tuple[Json, ...], own: str) -> PairSecrets:
        """Agree with everybody in the directory, once; another directory later is refused.

        Two directories under one session would be two sets of masks for one run key.
        """
        checked = Directory.from_json(
            list(directory), run=self.run, session=self.name, identity_keys=self.identity_keys
        )
        if self._pairs is None:
            self._pairs = PairSecrets.agree(self.run_key, checked, own)
        elif self._pairs.directory.digest != checked.digest:
            raise ProtocolViolation("directory: a second one came for the same session")
        return self._pairs

    def standardise(self, released: ReleasedStatistics) -> None:
        """Scale the features by what was released, once; other sums later are refused.

        A coordinator that could change the scale in mid-run, or give each hospital its own, could
        silence all but one of them in the sum (Pasquini et al. 2022).
        """
        if self.released is None:
            noise = statistics_noise_lanes(self.study, released)
            scales = standardisations(released, noise)
            self.records = standardised(self.records, scales, self.study.contract)
            self.released = released
        elif self.released.digest != released.digest:
            raise ProtocolViolation("statistics: other sums came than before in this session")

    def close(self) -> None:
        """Forget the secrets of this session."""
        if self._pairs is not None:
            self._pairs.forget()


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """The last attempt of a study that this hospital answered, in any run, kept durably.

    It is written before anything leaves, so a hospital that crashed never answers an attempt
    twice, and a second run of a study never starts again from its first model.
    """

    home: HospitalHome
    study: Study

    def check(self, spec: RoundSpec) -> None:
        """Refuse what is not newer than the last one. Raises StudyRefused.

        Where the sum opens what is not noised, a second attempt is refused as well: the
        difference of two sums over different cohorts would be one hospital's (decision 0003).
        """
        state = read_state(self._file)
        if state is None:
            return
        came, last = (_place(spec), spec.attempt), (state["round"], state["attempt"])
        where = f"round {spec.round}, attempt {spec.attempt}"
        if came <= last:
            answered = f"{where}: round {last[0]}, attempt {last[1]} was answered"
            raise StudyRefused(RefusalCode.REPLAY, answered)
        if _place(spec) == last[0] and not self._noised(spec.purpose):
            raise StudyRefused(RefusalCode.SECOND_ATTEMPT, f"{where}: no noise covers a second one")

    def write(self, spec: RoundSpec) -> None:
        """Remember this attempt; it is on disk when this returns."""
        content = canonical_bytes({"round": _place(spec), "attempt": spec.attempt})
        write_durably(self._file, content)

    @property
    def _file(self) -> Path:
        return self.home.attempt_file(self.study.digest)

    def _noised(self, purpose: Purpose) -> bool:
        if purpose is Purpose.EVALUATE:
            return self.study.evaluation.counts == "noised"
        if purpose is Purpose.STATISTICS:
            return True
        return self.study.privacy.mechanism is not Mechanism.NONE


def _place(spec: RoundSpec) -> int:
    """Where a round stands in the study: statistics come before training round 0."""
    return -1 if spec.purpose is Purpose.STATISTICS else spec.round
