"""What `wardround data quality` shows a hospital of its own data: means, shares and what to fix.

For its own people alone. It holds no patient's value: no least, greatest or middle one, and nothing
of fewer than 5 patients, since such a table is easily pasted into a message.
"""

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from wardround.canonical import Json
from wardround.quality.compare import Difference
from wardround.quality.numbers import ColumnNumbers
from wardround.quality.verdict import Verdict
from wardround_client.data.outcomes import coarse
from wardround_client.quality import Looked

_COLOURS = {
    Verdict.NOT_READY: "red",
    Verdict.READY_WITH_REMARKS: "yellow",
    Verdict.READY: "green",
}


@dataclass(frozen=True, slots=True)
class QualityView:
    """One hospital's data for one study; `telling` is what the policy lets the report say."""

    hospital: str
    study: str
    looked: Looked
    telling: str

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.looked.assessment.verdict

    def to_json(self) -> Json:
        """The same as a JSON value."""
        own, assessment = self.looked.own, self.looked.assessment
        return {
            "hospital": self.hospital,
            "study": self.study,
            "verdict": self.verdict.value,
            "reasons": [reason.value for reason in assessment.reasons],
            "compared": self.looked.compared_with is not None,
            "told": self.telling,
            "patients": own.patients,
            "records": own.records,
            "missing": {c.name: coarse(c.missing, own.patients) for c in own.columns},
            "measured": {c.name: c.measured for c in own.columns if c.measured is not None},
            "clipped": {c.name: c.clipped for c in own.columns if c.clipped is not None},
            "unread": {c.name: c.unread for c in own.columns if c.unread is not None},
            "differences": [_json(each) for each in self.looked.differences],
            "to_fix": [
                {"column": each.column, "reason": each.reason.value, "advice": each.advice}
                for each in assessment.findings
            ],
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print as a table with the advice and the verdict under it."""
        own = self.looked.own
        yield Text.assemble((self.hospital, "bold"), f"  {self.study}")
        yield Text(f"{own.records} records of {own.patients} patients")
        yield self._table()
        if self.looked.compared_with is None:
            yield Text(
                "No released statistics of such a study are kept here: nothing to compare with."
            )
        for found in self.looked.assessment.findings:
            yield Text.assemble((f"{found.reason.value}: ", "yellow"), str(found))
        yield Text(self.verdict.value, f"bold {_COLOURS[self.verdict]}")
        yield Text(f"the policy lets the report tell: {self.telling}")

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("column", no_wrap=True)
        table.add_column("what", overflow="fold")
        for name in ("missing", "here", "others", "apart", "surely"):
            table.add_column(name, justify="right")
        by_column: dict[str, list[Difference]] = {}
        for each in self.looked.differences:
            by_column.setdefault(each.name, []).append(each)
        own = self.looked.own
        rows = {column.name: coarse(column.missing, own.patients) for column in own.columns}
        alone = {column.name: _alone(column) for column in own.columns}
        for name in dict.fromkeys([*by_column, *rows]):
            missing = rows.get(name, "-")
            found = by_column.get(name, [])
            first = _cells(found[0]) if found else ("-",) * 5
            table.add_row(name, first[0], missing, *first[1:])
            for more in map(_cells, found[1:]):
                table.add_row("", more[0], "", *more[1:])
            for what, here in alone.get(name, ()):
                table.add_row("", what, "", here, "-", "-", "-")
        return table


def _alone(column: ColumnNumbers) -> list[tuple[str, str]]:
    """What is known of a column without the others: of its steps, pixels and molecules."""
    shares = (
        ("steps measured", column.measured),
        ("pixels beyond the range", column.clipped),
        ("without a structure", column.unread),
    )
    return [(what, f"{share:.1%}") for what, share in shares if share is not None]


def _cells(each: Difference) -> tuple[str, str, str, str, str]:
    """What, here, at the others, how far apart, and how far surely."""
    if each.of_means:
        unit = "" if each.unit == "1" else f" {each.unit}"
        own = "-" if each.own is None else f"{each.own:.4g}{unit}"
        apart = (f"{each.apart:.2f} sd", f"{each.sure:.2f} sd")
        return each.what, own, f"{each.others:.4g}{unit}", *apart
    others = f"{each.others:.0%}"
    if each.own is None:
        return each.what, "few", others, "few", "few"
    apart = (f"{100 * each.apart:.0f} points", f"{100 * each.sure:.0f} points")
    return each.what, f"{each.own:.0%}", others, *apart


def _json(each: Difference) -> Json:
    return {
        "column": each.name,
        "what": each.what,
        "unit": each.unit,
        "own": each.own,
        "others": each.others,
        "apart": None if each.own is None else each.apart,
        "surely_apart": None if each.own is None else each.sure,
    }
