"""Section E as people read it: a row for each group of patients, and for each shuffled column."""

from typing import Any

from wardround.audit.beside_page import beside_table
from wardround.audit.comparison_page import comparison_table
from wardround.audit.group_tables import ends, table_of
from wardround.audit.report_evaluation import ShuffledFacts, ShuffledMetricFacts
from wardround.audit.report_model import Report
from wardround.audit.treatment_page import treatment_table
from wardround.audit.words import Words

RESTS = (
    "What the model rests on: AUROC lost when a column is shuffled",
    "AUROC lost",
    "AUROC without it",
)
MEASURED_RESTS = (
    "What the model rests on: how much worse it does when a column is shuffled",
    "worse by: {metric}",
    "without it",
)


def evaluation_tables(report: Report, t: Words) -> dict[str, Any]:
    """`by_group`: a table for each grouping; `shuffled`: a row a column, what is lost most first.

    `rests` are the words over the latter. `chosen`: policies of a treatment; `joined`: models
    beside the study's; `compared`: other ways to train, in a rehearsal. Numbers are written out.
    What may not be shown has a word instead of its count.
    """
    facts = report.evaluation
    return {
        "by_group": [table_of(grouping, t) for grouping in facts.subgroups],
        "shuffled": [_column(column, t) for column in sorted(facts.importance, key=_loss)],
        "rests": _rests(facts.importance[0], t) if facts.importance else None,
        **treatment_table(report, t),
        **beside_table(report, t),
        **comparison_table(report, t),
    }


def _loss(column: ShuffledFacts | ShuffledMetricFacts) -> float:
    return 0.0 if column.lost is None else -column.lost.value


def _rests(column: ShuffledFacts | ShuffledMetricFacts, t: Words) -> dict[str, str]:
    if isinstance(column, ShuffledFacts):
        title, lost, without = (t.word(text) for text in RESTS)
    else:
        metric = t.word(column.metric)
        title, lost, without = (t.plain(text, metric=metric) for text in MEASURED_RESTS)
    return {"title": title, "lost": lost, "without": without}


def _column(column: ShuffledFacts | ShuffledMetricFacts, t: Words) -> dict[str, str]:
    lost = column.lost
    value = column.auroc if isinstance(column, ShuffledFacts) else column.value
    if lost is None or value is None:
        return {"column": column.column, "lost": "NA", "interval": "", "noise": "", "auroc": "NA"}
    return {
        "column": column.column,
        "lost": f"{lost.value:+.3f}",
        "interval": ends(lost.low, lost.high, "{:+.3f}", t),
        "noise": ends(lost.noise_low, lost.noise_high, "{:+.3f}", t),
        "auroc": f"{value:.3f}",
    }
