"""What a hospital holds in memory between opening a session and the end of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from wardround.errors import ProtocolViolation
from wardround.masking.agreement import Agreement
from wardround.masking.hospital_round import HospitalRound
from wardround.masking.pairs import PairSecrets
from wardround.masking.run_key import RunKey
from wardround.models.networks import build, load_parameters
from wardround.protocol.envelope import Vector
from wardround.protocol.messages import Keys, RefusalCode
from wardround.protocol.specs import statistics_noise_lanes
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.scaling import standardisations
from wardround.study.manifest import Study
from wardround_client.approval import ApprovedStudy
from wardround_client.kept_control import SessionControl
from wardround_client.ledger import Ledger
from wardround_client.records import StudyRecords, standardised
from wardround_client.refusal import StudyRefused
from wardround_client.training.noise import NoiseProbe
from wardround_client.witness import StudyEvidence


@dataclass(slots=True)
class SessionSecrets:
    """The key of one session, what was agreed with it, and the present attempt's keys.

    They die with the process. `keys` is the message that `pairs` were made with; from then on the
    run key is gone, since past masks could be derived from it anew.
    """

    run_key: RunKey | None = field(default=None, repr=False)
    agreement: Agreement | None = field(default=None, repr=False)
    keys: Keys | None = field(default=None, repr=False)
    pairs: PairSecrets | None = field(default=None, repr=False)
    attempt: HospitalRound | None = field(default=None, repr=False)

    def agreed(self) -> PairSecrets:
        """The roots that we share with each peer. Raises StudyRefused before `keys` came."""
        if self.pairs is None:
            raise StudyRefused(RefusalCode.DIRECTORY, "no keys were agreed in this session")
        return self.pairs

    def take_up(self, attempt: HospitalRound) -> None:
        """Begin an attempt: what the one before it still had is forgotten."""
        if self.attempt is not None:
            self.attempt.forget()
        self.attempt = attempt

    def present(self, transcript: str) -> HospitalRound:
        """The attempt that we uploaded for last. Raises StudyRefused for any other."""
        if self.attempt is None or self.attempt.transcript != transcript:
            raise StudyRefused(
                RefusalCode.SURVIVORS, f"survivors: {transcript} is not our present attempt"
            )
        return self.attempt

    def forget(self) -> None:
        """Drop everything that masks come from."""
        if self.attempt is not None:
            self.attempt.forget()
        if self.pairs is not None:
            self.pairs.forget()
        self.run_key = self.agreement = self.attempt = None


@dataclass(slots=True)
class RunSession:
    """One run at this hospital."""

    approved: ApprovedStudy
    run: str
    name: str
    identity_keys: Mapping[str, bytes]
    records: StudyRecords = field(repr=False)
    ledger: Ledger = field(repr=False)
    evidence: StudyEvidence = field(repr=False)
    budget_basis: tuple[str, int]
    secrets: SessionSecrets = field(default_factory=SessionSecrets, repr=False)
    released: ReleasedStatistics | None = field(default=None, repr=False)
    noise_probes: list[NoiseProbe] = field(default_factory=list, repr=False)
    control: SessionControl = field(default_factory=SessionControl, repr=False)
    _network: nn.Module | None = field(default=None, repr=False)

    @property
    def study(self) -> Study:
        """The approved study."""
        return self.approved.study

    @property
    def parameters(self) -> int:
        """How many the study's network has."""
        return sum(parameter.numel() for parameter in self._built().parameters())

    def network(self, model: Vector) -> nn.Module:
        """The study's network with these parameters, for one round: the next one gets the same.

        Starting values are drawn once in a session, which takes long for a large model.
        """
        network = self._built()
        network.zero_grad(set_to_none=True)
        load_parameters(network, torch.from_numpy(np.array(model)))
        return network

    def _built(self) -> nn.Module:
        if self._network is None:
            self._network = build(self.study)
        return self._network

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
        """Forget the secrets of this session, and what was trained in it."""
        self.secrets.forget()
        self.control.forget()
        self._network = None
