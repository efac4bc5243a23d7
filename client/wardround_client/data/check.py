"""What `wardround data check` says about a file: counts, never a value, small counts hidden."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.quality.verdict import Verdict
from wardround.study.contract import Column, ColumnKind, Contract
from wardround_client.data.conversion import Findings
from wardround_client.data.description import ColumnSource, DatasetDescription
from wardround_client.data.examination import examine
from wardround_client.data.outcomes import coarse, outcomes

__all__ = ["ColumnCheck", "DataCheck", "Verdict", "check", "coarse"]

_DUE = {ColumnKind.FINGERPRINT: "SMILES"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnCheck:
    """One line of the table; counts of missing values are hidden below 5."""

    column: str
    kind: str
    source: str
    unit: str
    due: str
    missing: str
    out_of_range: int
    unreadable: int
    unseen: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """A hospital's file against a study's contract.

    When description and contract do not agree, or the file cannot be read, `columns` is empty and
    `to_fix` says why. It is for the hospital's own eyes; the small counts are hidden all the same,
    since such a table is easily pasted into a message. `positive` and `negative` count patients of
    a label that is yes or no, or with and without the event; `outcomes` says it for every label.
    """

    hospital: str
    dataset: str
    title: str
    path: str
    rows: int
    patients: int
    records_per_patient: int
    duplicates: int
    label: str
    positive: str
    negative: str
    outcomes: tuple[str, ...]
    columns: tuple[ColumnCheck, ...]
    to_fix: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """Not ready while anything has to be fixed."""
        if self.to_fix:
            return Verdict.NOT_READY
        return Verdict.READY_WITH_REMARKS if self.remarks else Verdict.READY

    def to_json(self) -> Json:
        """The check as a JSON value."""
        columns: list[Json] = [
            {name: _plain(getattr(column, name)) for name in ColumnCheck.__slots__}
            for column in self.columns
        ]
        own = [name for name in DataCheck.__slots__ if name != "columns"]
        whole = {name: _plain(getattr(self, name)) for name in own}
        return {**whole, "columns": columns, "verdict": self.verdict.value}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print as a table with the verdict under it."""
        yield Text.assemble((self.hospital, "bold"), f"  {self.title}")
        if self.columns:
            yield Text(f"{self.path}: {self._size()}")
            yield self._table()
        yield Group(*self._sentences())

    def _size(self) -> str:
        counts = f"{self.rows} records of {self.patients} patients"
        most = f"at most {self.records_per_patient} a patient"
        return f"{counts}, {most}\n{self.label}: {', '.join(self.outcomes)}"

    def _table(self) -> Table:
        """Names and counts, then what is allowed, which may be long; faults where there are any."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        faults = {
            "outside": [column.out_of_range for column in self.columns],
            "unreadable": [column.unreadable for column in self.columns],
        }
        faults = {name: counts for name, counts in faults.items() if any(counts)}
        for name in ("column", "from"):
            table.add_column(name, overflow="fold")
        for name in ("missing", *faults):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("allowed", overflow="fold")
        for at, column in enumerate(self.columns):
            counts = (counts[at] for counts in faults.values())
            table.add_row(
                *(Text(word) for word in (column.column, column.source, column.missing)),
                *(Text(str(n or "-"), "red" if n else "dim") for n in counts),
                Text(_allowed(column)),
            )
        return table

    def _sentences(self) -> Iterator[Text]:
        for sentence in self.to_fix:
            yield Text.assemble(("fix   ", "red"), sentence)
        for sentence in self.remarks:
            yield Text.assemble(("note  ", "yellow"), sentence)
        colour = {Verdict.NOT_READY: "red", Verdict.READY_WITH_REMARKS: "yellow"}
        yield Text(self.verdict.value, f"bold {colour.get(self.verdict, 'green')}")


def check(description: DatasetDescription, contract: Contract, folder: Path) -> DataCheck:
    """Look at a hospital's file and say whether it is ready. Raises nothing for a faulty file."""
    try:
        seen = examine(description, contract, folder)
    except BadInput as error:
        return _unread(description, contract, str(error))
    records = pd.Series(seen.patients).value_counts()
    patients = len(records)
    outcome = outcomes(seen.patients, seen.labels, contract.label)
    return DataCheck(
        hospital=description.hospital,
        dataset=description.dataset,
        title=description.title,
        path=description.path,
        rows=len(seen.patients),
        patients=patients,
        records_per_patient=int(records.max()),
        duplicates=seen.duplicates,
        label=contract.label.name,
        positive=outcome.positive,
        negative=outcome.negative,
        outcomes=outcome.sentences,
        columns=tuple(
            _column_check(column, found, description.source_of(column.name))
            for column, found in zip(contract.columns, seen.findings, strict=True)
        ),
        to_fix=seen.faults,
        remarks=seen.remarks,
    )


def _column_check(column: Column, found: Findings, source: ColumnSource) -> ColumnCheck:
    unit = column.unit
    if source.convert is not None:
        unit = f"{source.unit} -> {column.unit}"
    if column.range is not None:
        due = f"{column.range[0]:g}..{column.range[1]:g}"
    else:
        due = ", ".join(column.categories) or _DUE.get(column.kind, "0, 1")
    return ColumnCheck(
        column=column.name,
        kind=column.kind.value,
        source=source.source or "(absent)",
        unit=unit,
        due=due,
        missing=coarse(found.missing, found.rows),
        out_of_range=found.out_of_range,
        unreadable=found.unreadable,
        unseen=found.unseen,
    )


def _unread(description: DatasetDescription, contract: Contract, why: str) -> DataCheck:
    return DataCheck(
        hospital=description.hospital,
        dataset=description.dataset,
        title=description.title,
        path=description.path,
        rows=0,
        patients=0,
        records_per_patient=0,
        duplicates=0,
        label=contract.label.name,
        positive="0",
        negative="0",
        outcomes=(),
        columns=(),
        to_fix=tuple(why.split("; ")),
        remarks=(),
    )


def _allowed(column: ColumnCheck) -> str:
    unit = "" if column.unit in {"", "1"} else f" {column.unit}"
    never = f" (never: {', '.join(column.unseen)})" if column.unseen else ""
    return f"{column.due}{unit}{never}"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
