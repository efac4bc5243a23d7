"""A roster from what hospitals told over the telephone: NAME=FINGERPRINT."""

import re
from collections.abc import Sequence

from wardround.errors import BadInput
from wardround.models.registered import check_installed
from wardround.protocol.halves import trained_parameters
from wardround.protocol.specs import check_training, evaluation_layout
from wardround.study.files import checked
from wardround.study.manifest import Mechanism, Study, StudyPlan

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_FEWEST = 2


def with_roster(plan: StudyPlan, hospitals: Sequence[str]) -> Study:
    """The study with its roster.

    Raises BadInput for a malformed or repeated entry, for a study whose own model is not installed
    here or whose counts no log could hold, and for one whose noise does not fit into the lanes of a
    sum over this roster.
    """
    roster = []
    for entry in hospitals:
        name, equals, fingerprint = entry.partition("=")
        if not equals:
            raise BadInput(f"--hospital {entry}: NAME=FINGERPRINT is due")
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise BadInput(
                f"--hospital {name}: a fingerprint is 64 lower-case hex digits, "
                f"{len(fingerprint)} signs came"
            )
        roster.append({"name": name, "fingerprint": fingerprint})
    if len(roster) < _FEWEST:
        raise BadInput(f"--hospital: {len(roster)} came, at least {_FEWEST} are due")
    study = checked(Study, {**plan.to_json(), "roster": roster}, what="roster")
    if study.task.own is not None:
        check_installed(study.task.own)
    if study.rounds.count:
        evaluation_layout(study)
    check_noise_fits(study, most_hospitals=len(roster))
    return study


def check_noise_fits(plan: StudyPlan, *, most_hospitals: int) -> None:
    """Raise BadInput when a sum over an allowed cohort could not hold the shares of its noise."""
    if plan.privacy.mechanism is not Mechanism.DISTRIBUTED and plan.statistics is None:
        return
    from wardround.models.networks import build  # noqa: PLC0415  # loads torch

    parameters = sum(parameter.numel() for parameter in build(plan).parameters())
    lanes = trained_parameters(plan, parameters)
    check_training(plan, most_hospitals=most_hospitals, lanes=lanes)
