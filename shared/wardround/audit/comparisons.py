"""Section E, of a rehearsal only: the comparison that its coordinator stated."""

from wardround.audit.body_comparison import ComparisonStated
from wardround.audit.evidence import Evidence
from wardround.audit.report_comparison import ComparisonFacts, NextFacts, NumberFacts, WayFacts
from wardround.audit.report_figure import Origin, Place

NOT_COVERED = (
    "The comparison with other ways to train: this was a rehearsal, one machine had everybody's "
    "data, and the models were scored there. No epsilon covers its numbers."
)


def comparison_of(evidence: Evidence) -> ComparisonFacts | None:
    """The last comparison in the coordinator's log; None in every real federation."""
    record = evidence.coordinator.last(ComparisonStated)
    if record is None:
        return None
    body = record.body
    coming = body.next_hospital
    return ComparisonFacts(
        origin=Origin.LOGGED,
        place=Place(log=record.log, seq=record.seq),
        made_of=body.made_of,
        metric=body.metric,
        ways=tuple(
            WayFacts(
                way=each.way,
                epsilon=each.epsilon,
                whole=NumberFacts(**each.whole.model_dump()),
                hospitals={
                    name: NumberFacts(**own.model_dump()) for name, own in each.hospitals.items()
                },
            )
            for each in body.ways
        ),
        next_hospital=None if coming is None else NextFacts(**coming.model_dump()),
    )
