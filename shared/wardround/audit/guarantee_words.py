"""Section B in words. Every sentence is one of `templates/words_de.json` as well."""

from wardround.audit.evidence import Evidence
from wardround.audit.report_model import Figure, GuaranteeClass
from wardround.masking.round_spec import Profile
from wardround.study import manifest
from wardround.study.manifest import Study

NO_LOG = "its own log is not in the bundle"


def headline(kind: GuaranteeClass, study: Study) -> str:
    """The guarantee in one sentence, for the strip of the label."""
    if kind is GuaranteeClass.FORMAL_DP:
        used = "trained the model" if study.rounds.count else "were counted"
        return f"Formal differential privacy for every patient whose records {used}"
    if study.privacy.mechanism is manifest.Mechanism.NONE:
        return "Masking only: updates were hidden in sums, and nothing protects a patient in a sum"
    return "The study promised noise, and the logs show an update that left without enough of it"


def scope(kind: GuaranteeClass, study: Study, evidence: Evidence) -> tuple[str, ...]:
    """Against whom the guarantee holds, and what it does not cover."""
    lines = []
    if kind is GuaranteeClass.FORMAL_DP:
        lines.append(_trust(study))
    if study.statistics is not None:
        lines.append(
            "Statistics carry noise, and are charged to training and held-out patients alike."
        )
    if study.rounds.count:
        lines.append(_of_evaluation(study))
    if study.made_from is not None:
        lines += _of_what_was_made(kind)
    if evidence.without_log:
        names = ", ".join(evidence.without_log)
        lines.append(f"For {names} the study's numbers stand in: {NO_LOG}.")
    return tuple(lines)


def _of_what_was_made(kind: GuaranteeClass) -> tuple[str, ...]:
    """A GAN: what the coordinator made of the discriminator, behind hospitals' backs."""
    bound = (
        "Generator and risk model were made at the coordinator from the discriminator: the logs "
        "bind their digest, and a verifier does not make them again. What was evaluated is the "
        "risk model, which has learnt from synthetic records alone."
    )
    if kind is not GuaranteeClass.FORMAL_DP:
        return (bound,)
    return (
        "Only the discriminator saw patients: the same epsilon covers the generator, the risk "
        "model and every synthetic record, since they were made without another look at patients.",
        bound,
    )


def _of_evaluation(study: Study) -> str:
    if study.evaluation.beside:
        return (
            "The pooled counts of held-out patients were opened exactly, those by models of the "
            "hospitals' own, too: no epsilon covers them, nor what they tell of training patients."
        )
    if study.evaluation.counts == "exact":
        return "The pooled counts of held-out patients were opened exactly: no epsilon covers them."
    return "Held-out patients' counts carry noise: the larger epsilon of both groups is printed."


def _trust(study: Study) -> str:
    """Against whom the guarantee holds."""
    if study.privacy.mechanism is not manifest.Mechanism.DISTRIBUTED:
        return "Holds against everybody who sees the updates, the coordinator included."
    colluders = study.privacy.colluders
    if not colluders:
        return (
            "Holds as long as no hospital pools what it knows with the coordinator, not even its "
            "own noise: against that the guarantee is weaker."
        )
    return (
        f"Holds as long as no more than {colluders} of the hospitals pool what they know with the "
        "coordinator; against more the guarantee is weaker."
    )


def unit_in_words(study: Study, kind: GuaranteeClass) -> str:
    """Whom epsilon counts."""
    if kind is GuaranteeClass.NONE:
        return f"one {study.privacy.unit}, as the study says; without noise no limit goes with it"
    if study.privacy.unit == "patient":
        return (
            "one patient with all records at one hospital: adding or removing this person "
            "changes what anybody can learn by no more than epsilon allows"
        )
    return (
        "one RECORD, not one person: a patient with several records is protected less than "
        "epsilon says"
    )


def mechanism_in_words(study: Study) -> str:
    """What the hospitals do to a patient's influence before anything leaves."""
    if not study.rounds.count:
        return (
            "each hospital counts every patient once, adds discrete Gaussian noise and masks the "
            "counts: only their sum is opened"
        )
    if study.privacy.mechanism is manifest.Mechanism.NONE:
        return "no noise; updates were masked, so that the coordinator opened only their sum"
    if study.privacy.mechanism is manifest.Mechanism.DISTRIBUTED:
        return (
            "each hospital samples patients at random, clips each patient's influence, adds a "
            "share of discrete Gaussian noise and masks it: only the sum is opened, and the "
            "shares in it make up the noise; the hospitals are trusted to add theirs"
        )
    return (
        "each hospital samples patients at random, clips each patient's influence, adds Gaussian "
        "noise to its own update and masks it: nobody has to be trusted"
    )


def masking_in_words(study: Study) -> str:
    """What masks hide from whom, and when a sum opens."""
    whole = _masked(study)
    if study.robust is None:
        return whole
    return (
        f"{whole}; training is summed in {study.robust.groups} random groups of at least "
        f"{study.masking.minimum_hospitals} hospitals, and each group's sum is opened"
    )


def _masked(study: Study) -> str:
    if study.masking.profile is Profile.ONE_TRIP:
        return (
            "updates are masked between every two hospitals, and a sum opens only with every "
            "hospital that was asked; evaluation counts are masked by each one besides"
        )
    return (
        "updates and counts are masked twice, between every two hospitals and by each one: a sum "
        "opens only when more than two thirds of the hospitals asked signed whose updates are in "
        "it, and nobody sees a single update unless a third of them or more work with the "
        "coordinator"
    )


def odds_in_words(odds: Figure, used: str) -> str:
    """What epsilon means, as a guess at even odds."""
    if odds.value is None:
        return "Nothing limits what a guesser could learn about one patient from these results."
    return (
        f"Someone who would guess with 50 of 100 whether a given patient's data {used} "
        f"reaches at most {odds.value:.0f} of 100 after seeing everything that left, but for a "
        "chance of delta."
    )
