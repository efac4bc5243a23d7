"""A roster from what hospitals told over the telephone: NAME=FINGERPRINT."""

from collections.abc import Sequence

from wardround.errors import BadInput
from wardround.study.files import checked
from wardround.study.manifest import Study, StudyPlan


def with_roster(plan: StudyPlan, hospitals: Sequence[str]) -> Study:
    """The study with its roster. Raises BadInput for a malformed or repeated entry."""
    roster = []
    for entry in hospitals:
        name, equals, fingerprint = entry.partition("=")
        if not equals:
            raise BadInput(f"--hospital {entry}: NAME=FINGERPRINT is due")
        roster.append({"name": name, "fingerprint": fingerprint})
    return checked(Study, {**plan.to_json(), "roster": roster}, what="roster")
