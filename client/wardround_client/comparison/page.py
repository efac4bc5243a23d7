"""The comparison as a page that a clinician reads: what it is, the picture, the table."""

from html import escape

from wardround.evaluation.single import NAMES
from wardround_client.comparison.picture import forest
from wardround_client.comparison.result import MARK, Comparison, Figure, Line
from wardround_client.comparison.ways import Way

_EXPLAINED = {
    "this rehearsal": "the run whose report lies beside this page: masked, signed, as in earnest",
    Way.ALONE.value: "each hospital's own model without noise, for its own held-out patients",
    Way.FEDERATED.value: "one model of all hospitals, without noise",
    Way.PRIVATE.value: "one model of all hospitals, with the study's noise",
    Way.POOLED.value: "all patients in one place, without noise: nobody could do this",
    Way.LEFT_OUT.value: "a model of the others, as the study trains it, for all its patients",
}


def page(comparison: Comparison) -> str:
    """One HTML file, whole in itself: no script, no outside address."""
    metric = escape(NAMES.get(comparison.metric, comparison.metric))
    rows = "\n".join(_row(line) for line in comparison.lines)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(comparison.study)}: comparison</title>
<style>
body {{ font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; margin: 2rem auto; max-width: 60rem;
  color: #14212b; padding: 0 1rem; }}
.mark {{ border: 2px solid #ab1420; padding: .7rem 1rem; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid #d8dee3; vertical-align: top; }}
svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>{escape(comparison.title)}</h1>
<p class="mark"><strong>{escape(MARK)}</strong></p>
{"" if comparison.note is None else f"<p>{escape(comparison.note)}</p>"}
{forest(comparison)}
<h2>{metric} of held-out patients</h2>
<table><thead><tr><th>Way</th><th>Epsilon</th><th>{metric} (95 %)</th><th>Patients</th>
<th>Each hospital</th></tr></thead><tbody>
{rows}
</tbody></table>
{_next(comparison, metric)}
</body></html>
"""


def _row(line: Line) -> str:
    own = "<br>".join(
        f"{escape(name)}: {_said(found)}, {found.patients} patients"
        for name, found in line.hospitals.items()
    )
    epsilon = "none" if line.epsilon is None else f"{line.epsilon:.3g}"
    explained = escape(_EXPLAINED.get(line.way, ""))
    return (
        f"<tr><td><strong>{escape(line.way)}</strong><br>{explained}</td><td>{epsilon}</td>"
        f"<td>{_said(line.whole)}</td><td>{line.whole.patients}</td><td>{own}</td></tr>"
    )


def _next(comparison: Comparison, metric: str) -> str:
    coming = comparison.next_hospital
    if coming is None:
        return (
            "<p>What the next hospital may expect is not available: it takes three hospitals "
            "with patients of both kinds.</p>"
        )
    low, high = coming.prediction
    return (
        f"<p>From {coming.hospitals} hospitals, each left out in turn: {metric} "
        f"{coming.mean:.3f} on average (95 % {coming.interval[0]:.3f} to "
        f"{coming.interval[1]:.3f}). <strong>A hospital that took no part may expect between "
        f"{low:.3f} and {high:.3f}</strong> (95 % prediction interval, random effects).</p>"
    )


def _said(found: Figure) -> str:
    if found.value is None:
        return "NA"
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
