"""Section F of the report: what each hospital chose to say of its data."""

from wardround.audit.report_figure import Figure, Place
from wardround.quality.verdict import Reason, Verdict
from wardround.study.contract import Frozen


class DataPart(Frozen):
    """Patients of one outcome (`of` what, and `word`), or without a value of one column."""

    of: str
    word: str
    patients: Figure


class HospitalData(Frozen):
    """One hospital's datasheet: its verdict and, where its policy tells them, its numbers.

    Of `missing` there are only the columns that 11 patients or more lack. `compared` says whether
    there were released statistics to compare with.
    """

    hospital: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    compared: bool
    numbers_told: bool
    patients: Figure
    records: Figure
    outcomes: tuple[DataPart, ...]
    missing: tuple[DataPart, ...]
    place: Place
