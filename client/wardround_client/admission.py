"""Answer to `open`: everything a hospital checks before it reads a record, then its run key.

In this order: signature and digest of the study, roster, approval, policy, the own model that it
may name, budget, the coordinator's history, the hospital's own engine. Only then are the records
read and checked against the contract.
"""

from dataclasses import dataclass

from wardround.canonical import Json, canonical_bytes
from wardround.code_digest import OF_HOSPITAL, code_digests
from wardround.errors import BadInput, RefusedByBudget, RefusedByPolicy
from wardround.identity import PUBLIC_KEY_BYTES, Identity, fingerprint
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.models.registered import check_installed
from wardround.privacy.accounting import epsilon_spent
from wardround.protocol.messages import Joined, Open, RefusalCode
from wardround.randomness import Randomness
from wardround.study.manifest import Mechanism, Study
from wardround.study.own_model import with_own_model
from wardround_client.approval import ApprovedStudy, approved_study, keep_study
from wardround_client.empirical.at_opening import audit_engine
from wardround_client.home import HospitalHome
from wardround_client.ledger import Ledger
from wardround_client.models_beside import ALONE, trained_alone
from wardround_client.network_kinds import network_entry
from wardround_client.plans import training_plan
from wardround_client.policy import check_study
from wardround_client.quality import looks, refuse_not_ready
from wardround_client.records import load_records
from wardround_client.refusal import StudyRefused, refusing
from wardround_client.remaining import (
    evaluation_left,
    split_name,
    statistics_left,
    training_left,
)
from wardround_client.session import RunSession
from wardround_client.witness import StudyEvidence


@dataclass(slots=True)
class Admission:
    """Opens sessions at this hospital."""

    home: HospitalHome
    identity: Identity
    hospital: str
    randomness: Randomness

    def check(self, question: Open) -> ApprovedStudy:
        """All checks that need no record. Raises StudyRefused with the code that may leave."""
        if self.home.paused:
            raise StudyRefused(RefusalCode.PAUSED, "this hospital is paused")
        with refusing(RefusalCode.BAD_STUDY):
            study = keep_study(self.home, canonical_bytes(question.signed_study))
        if self.hospital not in study.names() or (
            study.fingerprint_of(self.hospital) != self.identity.fingerprint
        ):
            raise StudyRefused(
                RefusalCode.NOT_ON_ROSTER, f"{self.hospital} is not on the roster of {study.name}"
            )
        try:
            approved = approved_study(self.home, study)
        except RefusedByPolicy as error:
            raise StudyRefused(RefusalCode.NOT_APPROVED, str(error)) from error
        except BadInput as error:  # the data set's description was changed or is gone
            raise StudyRefused(RefusalCode.DATA, str(error)) from error
        try:
            check_study(self.home.policy(), study)
        except RefusedByPolicy as error:
            raise StudyRefused(RefusalCode.POLICY, str(error)) from error
        if study.task.own is not None:
            with refusing(RefusalCode.MODEL):
                check_installed(study.task.own)
        return approved

    def identity_keys(self, question: Open, study: Study) -> dict[str, bytes]:
        """The roster's public keys. Only a key with the pinned fingerprint is believed."""
        keys = {}
        for name in study.names():
            key = bytes.fromhex(question.identity_keys.get(name, ""))
            if len(key) != PUBLIC_KEY_BYTES or fingerprint(key) != study.fingerprint_of(name):
                raise StudyRefused(
                    RefusalCode.DIRECTORY, f"the identity key of {name} is not the roster's"
                )
            keys[name] = key
        return keys

    def audit(self, question: Open, approved: ApprovedStudy, evidence: StudyEvidence) -> None:
        """Audit the engine on synthetic canaries, unless the policy says not to.

        Raises StudyRefused when it leaks more than the study's claim.
        """
        if self.home.policy().empirical_audit:
            audit_engine(
                approved.study,
                run=question.run,
                session=question.session,
                randomness=self.randomness,
                evidence=evidence,
            )

    def open(
        self, question: Open, approved: ApprovedStudy, ledger: Ledger, evidence: StudyEvidence
    ) -> RunSession:
        """Read the records. Raises StudyRefused when they do not fit."""
        keys = self.identity_keys(question, approved.study)
        with refusing(RefusalCode.DATA):
            policy = self.home.policy()
            records = load_records(approved, with_source=looks(policy, approved.study))
            if approved.study.attempts:
                plan = training_plan(approved.study, hospitals=len(approved.study.names()))
                plan.refuse_too_many(records.train.patients)
            refuse_not_ready(self.home, approved, records)
            if ALONE in approved.study.evaluation.beside:  # kept at approval, but for other data
                trained_alone(self.home, approved.study, records.train, self.randomness)
        return RunSession(
            approved=approved,
            run=question.run,
            name=question.session,
            identity_keys=keys,
            records=records,
            ledger=ledger,
            evidence=evidence,
            budget_basis=budget_basis(self.home, ledger, approved.study),
        )

    def join(
        self, session: RunSession, planned: float | None, seen: tuple[str, Json] | None
    ) -> Joined:
        """Make a fresh run key, log that we joined and what we saw; answer with the signed key.

        Which layers the network has is logged, too. Raises StudyRefused when it cannot be built.
        """
        session.secrets.run_key = RunKey.generate(self.randomness)
        joined = {
            "run": session.run,
            "session": session.name,
            "study_digest": session.study.digest,
            "epsilon_planned": planned,
            "code_digest": code_digests(with_own_model(OF_HOSPITAL, session.study.task)),
        }
        with refusing(RefusalCode.MODEL):
            network = network_entry(session.study, run=session.run, session=session.name)
        session.evidence.append(("run-joined", joined), network, seen)
        key = sign_run_key(
            self.identity,
            session.secrets.run_key,
            run=session.run,
            session=session.name,
            hospital=self.hospital,
        )
        return Joined(
            hospital=self.hospital,
            run_key=key.to_json(),
            epsilon_planned=planned,
            witnessed=session.evidence.coordinator.unproven,
            checkpoint=session.evidence.log.checkpoint(),
        )


def _refuse_other_unit(ledger: Ledger, study: Study) -> None:
    """Epsilons per record and per patient do not add up, so one data set keeps to one unit."""
    units = {release.unit for release in ledger.releases()}
    if units - {study.privacy.unit}:
        raise StudyRefused(
            RefusalCode.POLICY, f"this data set is accounted per {', '.join(sorted(units))}"
        )


def check_budget(home: HospitalHome, approved: ApprovedStudy, ledger: Ledger) -> float | None:
    """The study's planned epsilon, when all that is left of it fits the dataset's budget.

    Raises StudyRefused with the epsilon that would fit.
    """
    study = approved.study
    _refuse_other_unit(ledger, study)
    if study.privacy.delta is None:
        return None
    policy = home.policy()
    noised = study.privacy.mechanism is not Mechanism.NONE
    if noised and ledger.training_was_exact() and Mechanism.NONE not in policy.mechanisms:
        raise StudyRefused(
            RefusalCode.BUDGET,
            "budget: an update without noise has left this dataset, so no epsilon bounds what "
            "is known; only a policy that still allows mechanism none lets it go on",
            epsilon_that_fits=0.0,
        )
    releases = ledger.releases()
    try:
        ledger.check_fits(
            training_left(study, releases),
            evaluation=evaluation_left(study, releases),
            statistics=statistics_left(study, releases),
            split=split_name(approved.description, study.evaluation.held_out),
            budget_epsilon=policy.epsilon_budget,
            delta=study.privacy.delta,
        )
    except RefusedByBudget as error:
        raise StudyRefused(
            RefusalCode.BUDGET, str(error), epsilon_that_fits=error.epsilon_that_fits
        ) from error
    if not noised:
        return None
    whole = [*training_left(study, ()), *statistics_left(study, ())]
    return epsilon_spent(whole, delta=study.privacy.delta)


def budget_basis(home: HospitalHome, ledger: Ledger, study: Study) -> tuple[str, int]:
    """What a budget check rests on: the policy, and what other studies took of the dataset.

    While it stays the same, the check that admitted the study still holds.
    """
    others = sum(release.study_digest != study.digest for release in ledger.releases())
    return home.policy().digest(), others
