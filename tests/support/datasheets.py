"""What a hospital says of its data when its policy tells the counts, as an honest one does."""

from wardround.canonical import Json
from wardround.quality.numbers import may_lack, outcomes_of
from wardround.study.manifest import Study


def datasheet(study: Study, *, run: str, compared_with: str | None = None) -> tuple[str, Json]:
    """200 patients, few of one outcome; 45 of them lack the first column that may be missing."""
    lacking: list[int | None] = [None] * len(may_lack(study.contract))
    reasons = ["an outcome is rare"]
    if lacking:
        lacking[0], reasons = 45, [*reasons, "much is missing"]
    rest = len(outcomes_of(study.contract.label)) - 1
    return "data-described", {
        "run": run,
        "verdict": "ready with remarks",
        "reasons": reasons,
        "compared_with": compared_with,
        "noise": "none",
        "numbers": {
            "patients": 200,
            "records": 200,
            "outcomes": [195, *[None] * rest],
            "missing": lacking,
        },
    }
