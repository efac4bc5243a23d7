"""At the end of a run, where the policy asks for it: the final model is attacked, and it is logged.

The coordinator waits for this no longer than the study's deadline, and a hospital that comes later
is missing in the bundle. So there are few shadow models, or none where training was slow.
"""

import hashlib
import logging
from dataclasses import dataclass, field
from statistics import median_low

import numpy as np
import torch

from wardround.canonical import Json
from wardround.models.networks import build, load_parameters
from wardround.privacy.attack_bounds import ALPHA
from wardround.privacy.verdict import Verdict
from wardround.protocol.envelope import Vector
from wardround.protocol.halves import digest_of_model
from wardround.randomness import Randomness
from wardround.times import AttemptTimes, read_times
from wardround_client.attacks.at_hospital import attack, bounds_of
from wardround_client.attacks.logged import ENTRY, entry_body
from wardround_client.attacks.released import ReleasedModel
from wardround_client.local_view import model_file
from wardround_client.session import RunSession
from wardround_client.words_out import charge

log = logging.getLogger("wardround.hospital")

MOST_SHADOWS = 4
LEAST_DEADLINE_S = 30.0
# Of the deadline: messages and canaries need time as well, and so does the answer's way back.
_SHARE_FOR_SHADOWS = 0.25


@dataclass(frozen=True, slots=True)
class FinalAttack:
    """The attack tests of one hospital on the model that a run ended with."""

    hospital: str
    times: AttemptTimes
    randomness: Randomness = field(repr=False)

    def entry(self, session: RunSession, model: Vector) -> tuple[str, Json] | None:
        """The entry for the evidence log, its release charged; it never costs the run its end.

        None for a study per record, since only patients are attacked, and when the same model was
        attacked before: asking again until the verdict pleases is no test.
        """
        digest = digest_of_model(session.study, model, session.released)
        if session.study.privacy.unit != "patient" or _attacked(session, digest):
            return None
        if session.study.rounds.deadline_s < LEAST_DEADLINE_S:
            return ENTRY, _skipped(session, model, digest, "no time")
        try:
            body = self._tested(session, model, digest)
        except Exception as error:  # noqa: BLE001  # a library's text may hold records
            log.error("attack tests failed: %s", type(error).__name__)  # noqa: TRY400  # nor here
            body = _skipped(session, model, digest, "failed")
        return ENTRY, body

    def _tested(self, session: RunSession, model: Vector, digest: str) -> Json:
        network = build(session.study)
        load_parameters(network, torch.from_numpy(np.array(model)))
        outcome = attack(
            session.study,
            self.hospital,
            session.records,
            # The session's records are scaled already, where the study scales them.
            ReleasedModel(
                network=network, scales=(), run=session.run, sha256=_sha256(session, model)
            ),
            shadow_models=shadows_in_time(
                self._seconds_a_round(session.run),
                rounds=session.study.rounds.count,
                deadline_s=session.study.rounds.deadline_s,
            ),
            randomness=self.randomness,
        )
        log.info("attack tests: %s, %.1f s", outcome.verdict.value, outcome.seconds)
        body = entry_body(outcome) | {"model": digest}
        charge(session.ledger, session.approved, session.records, body, "attack-test")
        return body

    def _seconds_a_round(self, run: str) -> float | None:
        """The median training of this run here, the first is slow; None if it took part in none."""
        if not self.times.path.exists():
            return None
        lines = read_times(self.times.path)
        own = [line for line in lines if (line["run"], line["purpose"]) == (run, "train")]
        return median_low([float(line["compute_s"]) for line in own]) if own else None


def shadows_in_time(seconds_a_round: float | None, *, rounds: int, deadline_s: float) -> int:
    """How many shadow models, an even number, fit into their share of the deadline.

    >>> shadows_in_time(0.01, rounds=10, deadline_s=60.0)
    4
    >>> shadows_in_time(0.7, rounds=10, deadline_s=60.0)
    2
    >>> shadows_in_time(5.0, rounds=10, deadline_s=60.0)
    0
    """
    if seconds_a_round is None:
        return 0
    fit = _SHARE_FOR_SHADOWS * deadline_s / max(seconds_a_round * rounds, 1e-9)
    return 2 * int(min(fit, MOST_SHADOWS) // 2)


def _attacked(session: RunSession, digest: str) -> bool:
    came = (session.run, digest)
    return any(
        entry.type == ENTRY and (entry.body["run"], entry.body.get("model")) == came
        for entry in session.evidence.log.entries()
    )


def _sha256(session: RunSession, model: Vector) -> str:
    return hashlib.sha256(model_file(session, model)).hexdigest()


def _skipped(session: RunSession, model: Vector, digest: str, why: str) -> Json:
    """What the policy asks for and was not done; it says nothing of a patient."""
    claim = bounds_of(session.study, shadow_models=0).claim
    return {
        "run": session.run,
        "model": digest,
        "model_sha256": _sha256(session, model),
        "epsilon_claimed": claim.epsilon,
        "delta": claim.delta,
        "alpha": ALPHA,
        "tests": 0,
        "shadows": 0,
        "noise": "none",
        "verdicts": {},
        "verdict": Verdict.INCONCLUSIVE.value,
        "skipped": why,
    }
