"""The studies of the models benchmark: their data, what they are judged by, and their goals."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround_client.comparison.sites import Gathered, gather

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY.parent / "shared" / "data"
FOLDERS = REPOSITORY / "deploy" / "studies"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchedStudy:
    """A folder in deploy/studies, and the folder of its data.

    `at_least` is the goal for each mechanism. `of_pooled` is how far the mean may lie from that of
    the same model trained on the pooled rows, without noise.
    """

    name: str
    data: str
    metric: str
    seeds: int = 5
    at_least: dict[str, float]
    of_pooled: float | None = None

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return FOLDERS / self.name

    def goal(self, mechanism: str) -> str | None:
        """The goal in words; None without one."""
        if mechanism == "none" and self.of_pooled is not None:
            return f"within {self.of_pooled:g} of pooled"
        least = self.at_least.get(mechanism)
        return None if least is None else f"{least:g} or more"

    def reached(
        self, mechanism: str, found: Sequence[float], pooled: Sequence[float]
    ) -> bool | None:
        """Whether the means reach the goal; None without one."""
        mean = statistics.fmean(found)
        if mechanism == "none" and self.of_pooled is not None:
            return abs(mean - statistics.fmean(pooled)) <= self.of_pooled
        least = self.at_least.get(mechanism)
        return None if least is None else mean >= least


_ALL = (
    BenchedStudy(name="heart_disease", data="heart_disease_uci", metric="AUROC", at_least={}),
    BenchedStudy(
        name="heart_disease_flamby",
        data="heart_disease_uci",
        metric="client-mean accuracy",
        seeds=10,
        at_least={"none": 0.73, "distributed": 0.72},
    ),
    BenchedStudy(name="eicu_mortality", data="eicu_demo", metric="AUROC", at_least={}),
    BenchedStudy(
        name="brca_survival",
        data="tcga_brca_survival",
        metric="C-index",
        at_least={},
        of_pooled=0.02,
    ),
    BenchedStudy(name="molecules", data="moleculenet", metric="AUROC", at_least={}),
)
STUDIES = {study.name: study for study in _ALL}


def opened(study: BenchedStudy, data: Path) -> Gathered:
    """Read the study and everybody's records. Raises BadInput."""
    return gather(study.folder, data)
