"""From a hospital's own numbers, and how they differ from the others', to its verdict. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wardround.quality.compare import Difference
from wardround.quality.disclosure import FEW
from wardround.quality.numbers import ColumnNumbers, OwnNumbers, outcomes_of
from wardround.quality.plan import QualityPlan
from wardround.quality.verdict import Reason, Verdict, in_order, verdict_of
from wardround.statistics.cells import part_of
from wardround.study.contract import ColumnKind, Contract

# Above it a model learns of a column mostly that it is missing: a remark, whatever the study says.
MUCH_MISSING = 0.2
# Nine tenths of the values in so small a part of the range: another unit, or a constant.
HARDLY_USED = 0.02
# Pixels spread over their window; 8-bit values in a window of 1,400 Hounsfield units take 0.18.
HARDLY_USED_BY_PIXELS = 0.1
# Half a standard deviation, or a quarter of the patients: case mix that a reader should know of.
FAR_MEAN = 0.5
# Air around a patient is beyond many windows; over half of all pixels is another scale.
MUCH_CLIPPED = 0.5
FAR_SHARE = 0.25
_SCANNER = (
    "another scanner, or another way to store its pictures? `stored_range`, or `slope` and "
    "`intercept`, and `photometric` in `[images]` take them to the contract's range"
)
_CHEMISTRY = (
    "other chemistry, or another way to write SMILES? A model here reads the text: aromatic rings, "
    "charges, hydrogens and salts have to be written as the others write them"
)
_OTHERS = "other patients, or another way to measure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: in which column ("" for all), why, and what to do. For own eyes."""

    column: str
    reason: Reason
    advice: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.column}: {self.advice}" if self.column else self.advice


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict on one hospital's data. `findings` stay there; the words may leave."""

    findings: tuple[Finding, ...]

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Each reason once, in the order of the list."""
        return in_order(finding.reason for finding in self.findings)

    @property
    def verdict(self) -> Verdict:
        """What the reasons give."""
        return verdict_of(self.reasons)


def assess(
    own: OwnNumbers,
    contract: Contract,
    plan: QualityPlan,
    differences: Iterable[Difference] = (),
) -> Assessment:
    """Hold one hospital's numbers against the study's limits, and against the others.

    No advice holds a number of the hospital: it names the column, the limit and what to look at.
    """
    return Assessment(
        (
            *_sizes(own, contract, plan),
            *_missing(own, plan),
            *_ranges(own, contract, plan),
            *(found for each in differences if (found := _difference(each, contract, plan))),
        )
    )


def _sizes(own: OwnNumbers, contract: Contract, plan: QualityPlan) -> Iterator[Finding]:
    if own.patients < plan.least_patients:
        advice = f"fewer than {plan.least_patients} patients: look at the export and its filters"
        yield Finding("", Reason.TOO_FEW, advice)
    for (name, word), patients in zip(outcomes_of(contract.label), own.outcomes, strict=True):
        if patients < plan.least_per_outcome:
            advice = (
                f"{word}: fewer than {plan.least_per_outcome} patients, the study asks for them"
            )
            yield Finding(name, Reason.OUTCOME_TOO_RARE, advice)
        if patients < FEW:
            seen = f"fewer than {FEW} patients" if patients else "no patient at all"
            advice = f"{word}: {seen}; look at the label's rule. Own figures will be unsure, or NA"
            yield Finding(name, Reason.OUTCOME_RARE, advice)
    if own.followed is not None and own.followed < FEW:
        advice = (
            f"fewer than {FEW} patients are followed up to the horizon: look at the end of "
            "follow-up; of its last intervals little is learned here"
        )
        # Not "an outcome is rare": the events and their counts are another matter.
        yield Finding(contract.label.name, Reason.HARDLY_USED, advice)


def _missing(own: OwnNumbers, plan: QualityPlan) -> Iterator[Finding]:
    for column in own.columns:
        share = column.missing / max(own.patients, 1)
        if share > plan.most_missing:
            advice = (
                f"over {plan.most_missing:.0%} of the patients lack it, the study allows no more"
            )
            yield Finding(column.name, Reason.TOO_MUCH_MISSING, advice)
        if share > MUCH_MISSING:
            advice = (
                f"over {MUCH_MISSING:.0%} of the patients lack it: look at its source and codes"
            )
            yield Finding(column.name, Reason.MUCH_MISSING, advice)


def _ranges(own: OwnNumbers, contract: Contract, plan: QualityPlan) -> Iterator[Finding]:
    expected = {each.column: each.median for each in plan.expect}
    kinds = {column.name: column.kind for column in contract.columns}
    for column in own.columns:
        if column.clipped is not None and column.clipped > MUCH_CLIPPED:
            advice = (
                f"over {MUCH_CLIPPED:.0%} of the pixels lie beyond the contract's range and count "
                f"as its ends: {_SCANNER}"
            )
            yield Finding(column.name, Reason.HARDLY_USED, advice)
        if column.median is None or column.used is None:
            continue
        yield from _expected(column, expected.get(column.name))
        pixels = kinds[column.name] is ColumnKind.IMAGE
        least = HARDLY_USED_BY_PIXELS if pixels else HARDLY_USED
        if column.used < least:
            advice = (
                f"nine tenths of the values take less than {least:.0%} of the contract's range: "
                "look at unit and scale"
            )
            yield Finding(column.name, Reason.HARDLY_USED, advice)


def _expected(column: ColumnNumbers, due: tuple[float, float] | None) -> Iterator[Finding]:
    if due is None or column.median is None or due[0] <= column.median <= due[1]:
        return
    side = "below" if column.median < due[0] else "above"
    advice = (
        f"the median is {side} the {due[0]:g} to {due[1]:g} that the study expects: look at unit "
        "and scale"
    )
    yield Finding(column.name, Reason.UNIT_OR_SCALE, advice)


def _difference(found: Difference, contract: Contract, plan: QualityPlan) -> Finding | None:
    """A difference counts for what of it is sure, beyond noise and the chance of few patients.

    What was computed of a column (how sharp a picture is, how often something is measured) has no
    unit that could be wrong; of an image only its intensity has.
    """
    if found.of_means:
        cause = _cause(found, contract)
        if found.sure > plan.furthest and found.has_unit:
            advice = (
                f"the mean lies over {plan.furthest:g} standard deviations from the others': "
                + ("look at unit and scale" if cause is _OTHERS else cause)
            )
            return Finding(found.name, Reason.UNIT_OR_SCALE, advice)
        if found.sure > FAR_MEAN:
            advice = (
                f"the mean lies over {FAR_MEAN:g} standard deviations from the others': {cause}"
            )
            return Finding(found.name, Reason.DIFFERS, advice)
    elif found.sure > FAR_SHARE:
        advice = (
            f"{found.what}: the share differs from the others' by over {100 * FAR_SHARE:.0f} points"
        )
        return Finding(found.name, Reason.DIFFERS, advice)
    return None


def _cause(found: Difference, contract: Contract) -> str:
    """What may be behind two means that differ."""
    molecules = {c.name for c in contract.columns if c.kind is ColumnKind.FINGERPRINT}
    if any(found.name.startswith(part_of(name, "")) for name in molecules):
        return _CHEMISTRY
    return _OTHERS if contract.image is None else _SCANNER
