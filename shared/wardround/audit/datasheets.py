"""From the hospitals' logs to section F: verdict words and rounded numbers, as each told them."""

from collections.abc import Iterator

from wardround.audit.body_data import DataDescribed, DataNumbers
from wardround.audit.evidence import Evidence, Record
from wardround.audit.report_data import DataPart, HospitalData
from wardround.audit.report_figure import Figure, Place, logged, not_available
from wardround.quality.numbers import may_lack, outcomes_of
from wardround.study.contract import Contract

_ROUNDED = "to the nearest 5"
_FEW = "fewer than 11"
_NOT_TOLD = "the hospital's policy tells no number"


def datasheets_of(evidence: Evidence) -> tuple[HospitalData, ...]:
    """One for each hospital whose log has one for this run, by name in order."""
    found = []
    for name, log in sorted(evidence.hospitals.items()):
        own = [record for record in log.of(DataDescribed) if record.body.run == evidence.run]
        if own:
            found.append(_datasheet(name, own[-1], evidence.study.contract))
    return tuple(found)


def _datasheet(hospital: str, record: Record[DataDescribed], contract: Contract) -> HospitalData:
    body, numbers = record.body, record.body.numbers
    return HospitalData(
        hospital=hospital,
        verdict=body.verdict,
        reasons=body.reasons,
        compared=body.compared_with is not None,
        numbers_told=numbers is not None,
        patients=not_available(_NOT_TOLD) if numbers is None else _figure(numbers.patients),
        records=not_available(_NOT_TOLD) if numbers is None else _figure(numbers.records),
        outcomes=() if numbers is None else tuple(_outcomes(numbers, contract)),
        missing=() if numbers is None else tuple(_missing(numbers, contract)),
        place=Place(log=record.log, seq=record.seq),
    )


def _figure(said: int | None) -> Figure:
    return not_available(_FEW) if said is None else logged(said, _ROUNDED)


# Lengths that do not fit the contract are the verifier's to name: what is there is shown.
def _outcomes(numbers: DataNumbers, contract: Contract) -> Iterator[DataPart]:
    for (of, word), said in zip(outcomes_of(contract.label), numbers.outcomes, strict=False):
        yield DataPart(of=of, word=word, patients=_figure(said))


def _missing(numbers: DataNumbers, contract: Contract) -> Iterator[DataPart]:
    for column, said in zip(may_lack(contract), numbers.missing, strict=False):
        if said is not None:
            yield DataPart(of=column.name, word="missing", patients=_figure(said))
