"""How hospitals/NAME.toml derives the label, for every kind of label that a contract can have."""

import re
from typing import Annotated, Self

from pydantic import Field, model_validator

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Frozen, Label, LabelKind
from wardround_client.data.sources import NUMBER, Code, ColumnSource, SourceName

LATEST = 1e9  # the largest time that is taken for one, in the contract's unit


class LabelRule(Frozen):
    """How the label is derived.

    yes or no: `source` with `positive_when`, or with the values that mean yes and no. classes:
    `source` with `classes`, which maps the file's codes to the contract's. time-to-event: the event
    as yes or no, and `time`, a column like others. targets: one column for each in `targets`.
    """

    source: SourceName | None = None
    positive_when: Annotated[str, Field(pattern=rf"^(>=|<=|==|>|<)\s*{NUMBER}$")] | None = None
    positive_values: tuple[Code, ...] = ()
    negative_values: tuple[Code, ...] = ()
    classes: dict[Code, str] = Field(default_factory=dict)
    time: ColumnSource | None = None
    targets: tuple[ColumnSource, ...] = Field(default=(), max_length=1000)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        by_values = bool(self.positive_values) and bool(self.negative_values)
        half = bool(self.positive_values) != bool(self.negative_values)
        rules = (by_values, self.positive_when is not None, bool(self.classes), bool(self.targets))
        if half or sum(rules) != 1:
            raise ValueError(
                "label: `positive_when` is due, or `positive_values` and `negative_values` "
                "together, or `classes`, or `targets`"
            )
        if set(self.positive_values) & set(self.negative_values):
            raise ValueError("label: a value is both positive and negative")
        if bool(self.targets) == (self.source is not None):
            raise ValueError("label: `source` is due, but not beside `targets`")
        if self.time is not None and (self.classes or self.targets):
            raise ValueError("label: `time` goes with an event that is yes or no")
        return self

    def comparison(self) -> tuple[str, float]:
        """The operator and the number of `positive_when`.

        >>> LabelRule(source="num", positive_when=">0").comparison()
        ('>', 0.0)
        """
        found = re.match(rf"^(>=|<=|==|>|<)\s*({NUMBER})$", self.positive_when or "")
        if found is None:
            raise BadInput("label: no `positive_when` is declared")
        return found[1], float(found[2])

    def sources(self) -> list[tuple[str, str]]:
        """What is needed from the file: (what for, the file's column)."""
        needed = [("label", self.source)]
        needed += [(f"label {part.column}", part.source) for part in self.targets]
        if self.time is not None:
            needed.append(("label time", self.time.source))
        return [(what, source) for what, source in needed if source is not None]

    def faults(self, label: Label) -> list[str]:
        """What does not fit the contract's label, in sentences; empty when all fits."""
        due = _due(label)
        if self._form() != due:
            return [f"label: a rule of {self._form()} came, the contract's label wants {due}"]
        if label.kind is LabelKind.CLASSES:
            return self._class_faults(label)
        if self.time is not None:
            return self.time.faults(time_column(label))
        return self._target_faults(label)

    def _form(self) -> str:
        if self.time is not None:
            return "an event with `time`"
        if self.classes:
            return "`classes`"
        return "`targets`" if self.targets else "yes or no"

    def _class_faults(self, label: Label) -> list[str]:
        strange = sorted({code for code in self.classes.values() if code not in label.classes})
        return [
            f"label: `classes` leads to {name!r}, the contract knows {', '.join(label.classes)}"
            for name in strange
        ]

    def _target_faults(self, label: Label) -> list[str]:
        described = {source.column: source for source in self.targets}
        wanted = {column.name: column for column in target_columns(label)}
        found = [f"label: no target {name} in the contract" for name in described.keys() - wanted]
        for name, column in wanted.items():
            if name in described:
                found += described[name].faults(column)
            else:
                found.append(f"label: the contract wants target {name}, it is not described")
        if len(described) != len(self.targets):
            found.append("label: a target is described twice")
        return sorted(found)


def time_column(label: Label) -> Column:
    """The time of a prognosis as a column: from 0 in the contract's unit."""
    if label.time is None:
        raise BadInput(f"label {label.name}: it has no time")
    return Column(
        name="time",
        kind=ColumnKind.CONTINUOUS,
        description=f"Time to {label.name}, or followed up without it",
        unit=label.time.unit,
        range=(0.0, LATEST),
    )


def target_columns(label: Label) -> tuple[Column, ...]:
    """The targets as columns, each of which may be missing."""
    return tuple(
        Column(
            name=target.name,
            kind=ColumnKind.BINARY if target.range is None else ColumnKind.CONTINUOUS,
            description=target.description,
            unit=target.unit,
            range=target.range,
            may_be_missing=True,
        )
        for target in label.targets
    )


def _due(label: Label) -> str:
    return {
        LabelKind.CLASSES: "`classes`",
        LabelKind.TIME_TO_EVENT: "an event with `time`",
        LabelKind.TARGETS: "`targets`",
    }.get(label.kind, "yes or no")
