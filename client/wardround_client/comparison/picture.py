"""The comparison as one picture: the report's forest plot, as an SVG file of its own."""

from wardround.audit.forest import WIDTH, Kind, Mark, forest_plot
from wardround.evaluation.single import NAMES
from wardround_client.comparison.result import Comparison, Figure
from wardround_client.comparison.ways import Way

_STYLE = (
    "text{font:12px system-ui,'Segoe UI',Roboto,'DejaVu Sans',Arial,sans-serif;fill:#14212b}"
    ".tick,.title{text-anchor:middle;fill:#56646f}.side{text-anchor:end}.begin{text-anchor:start}"
    ".grid{stroke:#d8dee3}.whisker{stroke:#14212b;stroke-width:2}.dot{fill:#14212b}"
    ".measured text{font-weight:bold}"
    ".private .side,.private .dot,.measured .side,.measured .dot{fill:#0b6650}"
    ".private .whisker,.measured .whisker{stroke:#0b6650}"
    ".next .side,.next .dot{fill:#7a3b00}.next .whisker{stroke:#7a3b00}"
)
THIS_REHEARSAL = "this rehearsal"


def forest(comparison: Comparison) -> str:
    """Value and 95 % interval of each way, then of each hospital that was left out, then the next.

    What is not available has no mark and says NA.
    """
    metric = NAMES.get(comparison.metric, comparison.metric)
    drawn = forest_plot(
        _marks(comparison),
        axis=f"{metric}, 95 % intervals",
        label=f"{metric} of {comparison.study}: each way to train, and each hospital left out",
    )
    head, rest = str(drawn).split(">", 1)
    head = head.replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0f}"', 1)
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    return f"{head}><style>{_STYLE}</style>{paper}{rest}\n"


def _marks(comparison: Comparison) -> list[Mark]:
    marks: list[Mark] = []
    for line in comparison.lines:
        kind: Kind = "" if line.epsilon is None else "private"
        if line.way == THIS_REHEARSAL:
            kind = "measured"
        name = line.way if line.epsilon is None else f"{line.way}, epsilon {line.epsilon:.3g}"
        if line.way != Way.LEFT_OUT:
            marks.append(_mark(name, line.whole, kind))
            continue
        marks += [
            _mark(f"without {hospital}, in {hospital}", own, kind)
            for hospital, own in line.hospitals.items()
        ]
    coming = comparison.next_hospital
    if coming is not None:
        low, high = coming.prediction
        said = _said(coming.mean, low, high)
        marks.append(Mark("the next hospital", coming.mean, low, high, said, "next"))
    return marks


def _mark(name: str, found: Figure, kind: Kind) -> Mark:
    said = _said(found.value, found.low, found.high)
    return Mark(name, found.value, found.low, found.high, said, kind)


def _said(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "NA"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
