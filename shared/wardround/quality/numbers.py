"""A hospital's own numbers, from which its verdict follows. They never leave as they are."""

from dataclasses import dataclass, field

from wardround.study.contract import Column, ColumnKind, Contract, Label, LabelKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNumbers:
    """One column over this hospital's patients.

    `missing` counts patients without any value. `median` is in the contract's unit, `used` is the
    share of the contract's range that the middle nine tenths of the values take; both are None for
    what is no number, and where fewer than 11 patients have a value. `measured` is the share of a
    series' steps that have a measurement, `clipped` the share of an image column's pixels that lie
    beyond the contract's range and count as its ends, `unread` the share of a
    fingerprint column's SMILES that have no structure.
    """

    name: str
    missing: int = field(repr=False)
    median: float | None = field(default=None, repr=False)
    used: float | None = field(default=None, repr=False)
    measured: float | None = field(default=None, repr=False)
    clipped: float | None = field(default=None, repr=False)
    unread: float | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNumbers:
    """One hospital: `outcomes` are patients in the order of `outcomes_of`, `columns` all columns.

    A patient of several records has an outcome when any of them has it. `followed` are those who
    were followed up to the horizon of a prognosis, None with another label.
    """

    patients: int = field(repr=False)
    records: int = field(repr=False)
    outcomes: tuple[int, ...] = field(repr=False)
    columns: tuple[ColumnNumbers, ...]
    followed: int | None = field(default=None, repr=False)


def outcomes_of(label: Label) -> tuple[tuple[str, str], ...]:
    """The outcomes that patients are counted by: of what, and which; public, in this order.

    >>> outcomes_of(Label(name="sick", description="sick", positive="yes"))
    (('sick', 'yes'), ('sick', 'no'))
    """
    if label.kind is LabelKind.CLASSES:
        return tuple((label.name, name) for name in label.classes)
    if label.kind is LabelKind.TIME_TO_EVENT:
        return (label.name, "event"), (label.name, "no event")
    if label.numbers:
        return tuple((target.name, "known") for target in label.targets)
    names = [target.name for target in label.targets]
    if not names and label.positive is not None:
        names = [label.name]
    return tuple((name, word) for name in names for word in ("yes", "no"))


def add_up(label: Label) -> bool:
    """Whether every patient has exactly one of the outcomes."""
    kinds = {LabelKind.BINARY, LabelKind.CLASSES, LabelKind.TIME_TO_EVENT}
    return label.kind in kinds


def may_lack(contract: Contract) -> tuple[Column, ...]:
    """The columns that a patient may have no value of, in the contract's order."""
    return tuple(c for c in contract.columns if c.may_be_missing or c.kind is ColumnKind.SERIES)
