"""All forgeries: `python -m tests.support.forgeries_table` prints what each one fails by."""

import sys
from collections.abc import Iterator

from tests.support.forgeries import Forgery, honest
from tests.support.forgeries_entries import SEEN_LIES, UNSEEN_LIES
from tests.support.forgeries_members import (
    carried_files,
    carried_manifest,
    carried_members,
    spellings,
)
from tests.support.forgeries_parties import FORGERIES
from tests.support.forgeries_resealed import (
    countersignatures,
    further_logs,
    keys,
    logs,
    manifests,
    notes,
    statements,
    studies,
)

from wardround.audit.verify import verify_bytes

SYSTEMATIC = (
    *SEEN_LIES,
    *carried_members(),
    *carried_manifest(),
    *carried_files(),
    *spellings(),
    *keys(),
    *studies(),
    *countersignatures(),
    *notes(),
    *statements(),
    *manifests(),
    *logs(),
    *further_logs(),
)
ALL = (*FORGERIES, *SYSTEMATIC)


def lines() -> Iterator[str]:
    """One line for each: its name, and the verdict, the code and the place that must come."""
    width = max(len(forgery.name) for forgery in ALL)
    for forgery in (*ALL, *UNSEEN_LIES):
        due = f"{forgery.verdict:<10} {forgery.code:<24} {forgery.place}"
        yield f"{forgery.name:<{width}} {due}"


def found(forgery: Forgery) -> set[tuple[str, str, str]]:
    """What the verifier names: verdict, code and place of each failure."""
    verdicts = verify_bytes(forgery.forge(honest(forgery.lost).fork()))
    return {
        (verdict.name, failure.code, failure.log)
        for verdict in verdicts.four
        for failure in verdict.failures
        if failure.reason
    }


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
