"""Section G: what the report can fill in of a data protection impact assessment.

Only GDPR Art. 35(7)(a) to (d) is cited. The report states facts of the run; whether they are
enough is for the controller to judge, and each point says what a person has to add.
"""

from collections.abc import Sequence

from wardround.audit.evidence import Evidence, approval
from wardround.audit.report_model import DpiaItem, Guarantee, GuaranteeClass, Hazard, Status
from wardround.study.manifest import Study


def dpia_of(
    evidence: Evidence, guarantee: Guarantee, hazards: Sequence[Hazard]
) -> tuple[DpiaItem, ...]:
    """The four points, in the order of the clause."""
    return (
        _processing(evidence.study),
        _necessity(evidence.study, guarantee),
        _risks(guarantee, hazards),
        _measures(evidence, guarantee),
    )


def _processing(study: Study) -> DpiaItem:
    left = (
        f"Masked updates of a {study.task.model} model leave, {study.rounds.count} rounds planned."
        if study.rounds.count
        else "Masked statistics leave; no model is trained."
    )
    return DpiaItem(
        clause="Art. 35(7)(a)",
        title="The processing and its purposes",
        filled_in=(
            study.purpose,
            f"Records stay at the {len(study.names())} hospitals. {left}",
        ),
        to_fill_in=(
            "Controllers, processors and recipients of the model; legal basis; storage periods; "
            "the legitimate interest, where one is pursued.",
        ),
    )


def _necessity(study: Study, guarantee: Guarantee) -> DpiaItem:
    features = len(study.contract.features())
    lines = [
        f"{features} declared features, listed in section F; nothing else of a record is read."
    ]
    if guarantee.epsilon.value is not None and guarantee.epsilon_ceiling.value is not None:
        lines.append(
            f"The study allows training an epsilon of {guarantee.epsilon_ceiling.value:g}; "
            f"the worst-off patient was charged {guarantee.epsilon.value:g} in all."
        )
    return DpiaItem(
        clause="Art. 35(7)(b)",
        title="Necessity and proportionality",
        filled_in=tuple(lines),
        to_fill_in=(
            "Why the purpose cannot be reached with fewer data or a smaller epsilon; who decided "
            "on this epsilon, and on what grounds.",
        ),
    )


def _risks(guarantee: Guarantee, hazards: Sequence[Hazard]) -> DpiaItem:
    remarks = sum(hazard.status is Status.REMARK for hazard in hazards)
    failed = sum(hazard.status is Status.FAIL for hazard in hazards)
    found = (guarantee.found_in_words,) if guarantee.found_in_words else ()
    return DpiaItem(
        clause="Art. 35(7)(c)",
        title="Risks to the rights and freedoms of the patients",
        filled_in=(
            guarantee.odds_in_words,
            *found,
            f"{remarks} remarks and {failed} failures among the hazards of section B; what is not "
            "protected stands on the label.",
        ),
        to_fill_in=(
            "Likelihood and severity for the patients of your hospital, those with rare findings "
            "and those in small groups above all.",
        ),
    )


def _measures(evidence: Evidence, guarantee: Guarantee) -> DpiaItem:
    digest = evidence.study.digest
    approved = sum(approval(log, digest) is not None for log in evidence.hospitals.values())
    bare = guarantee.kind is GuaranteeClass.NONE
    return DpiaItem(
        clause="Art. 35(7)(d)",
        title="Measures against the risks",
        filled_in=(
            _sentence(guarantee.mechanism_in_words),
            _sentence(guarantee.masking_in_words),
            f"{approved} hospitals' logs show that an officer approved this study before it ran.",
            "Masks alone protect no patient."
            if bare
            else "Each hospital keeps a ledger of what its data set has spent, over all studies.",
            "Anybody can check the evidence without a network: section H says how.",
        ),
        to_fill_in=(
            "Measures outside the run: access to computers and to the model, deletion, training "
            "of staff, and how the rights of the patients are met.",
        ),
    )


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
