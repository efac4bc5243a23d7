"""The studies of the models benchmark: their data, what they are judged by, and their goals."""

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround_client.comparison.sites import Gathered, gather
from wardround_server.demo_data import write_generated

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY.parent / "shared" / "data"
FOLDERS = REPOSITORY / "deploy" / "studies"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchedStudy:
    """A folder in deploy/studies, and the folder of its data; None: they are generated.

    `at_least` is the goal for each mechanism. `of_pooled` is how far the mean may lie from that of
    the same model trained on the pooled rows, without noise. `draws` are the runs in one process
    that stand beside a rehearsal. With `plain_pytorch` the same network is trained by PyTorch's own
    loop as well. `note` is told below the table.
    """

    name: str
    data: str | None
    metric: str
    seeds: int = 5
    at_least: dict[str, float]
    of_pooled: float | None = None
    draws: int = 5
    plain_pytorch: bool = False
    note: str = ""

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
        seeds=10,  # few deaths are held out
        at_least={},
        of_pooled=0.02,
    ),
    BenchedStudy(name="molecules", data="moleculenet", metric="AUROC", at_least={}),
    BenchedStudy(
        name="chest_xray",
        data="pneumoniamnist",
        metric="AUROC",
        at_least={"none": 0.95, "distributed": 0.92},
    ),
    BenchedStudy(
        name="lung_ct",
        data="iq_othnccd_lung_ct",
        metric="balanced accuracy",
        seeds=10,  # few patients are held out
        at_least={},
        note="In lung_ct a guess has 0.333: some 86 groups of slices train, and nothing is learnt "
        "with noise.",
    ),
    BenchedStudy(
        name="icu_mortality",
        data="physionet2012_icu",
        metric="AUROC",
        at_least={"none": 0.80, "distributed": 0.75},
        draws=2,
    ),
    BenchedStudy(
        name="drug_response",
        data="gdsc1_response",
        metric="mean correlation",
        at_least={},
        note="In drug_response ridge regression on the pooled rows, cross-validated, has a mean "
        "correlation of 0.33 with these genes and no more with all 1,555.",
    ),
    BenchedStudy(
        name="leukemia_expression",
        data="golub_leukemia",
        metric="AUROC",
        at_least={},
        note="In leukemia_expression some 16 patients are held out: read the hospitals left out.",
    ),
    BenchedStudy(
        name="breast_expression",
        data="gse7390_breast_expression",
        metric="C-index",
        seeds=10,  # some ten metastases are held out
        at_least={},
        note="The settings of breast_expression were chosen on other splits than those of its "
        "seeds; some ten patients with a metastasis are held out. From age, size, grade and "
        "receptor alone the same model has 0.686 without noise and 0.647 with it.",
    ),
    BenchedStudy(
        name="treatment_choice",
        data="survival_multisite",
        metric="AUROC",
        seeds=10,  # 40 patients have the outcome
        at_least={},
        note="The AUROC of treatment_choice is that of the risk; whether choosing by it helps "
        "stands in its report.",
    ),
    BenchedStudy(
        name="ecg_beats",
        data="ecg",
        metric="AUROC",
        at_least={},
        draws=2,
        note="The settings of ecg_beats were chosen with noise; without it they are not the best.",
    ),
    BenchedStudy(name="anomaly", data="ecg", metric="AUROC", at_least={}),
    BenchedStudy(name="generated_ward", data=None, metric="AUROC", at_least={}),
    # Learnt from synthetic patients, scored on real ones; pooled and alone learn from real ones.
    BenchedStudy(name="synthetic", data="heart_disease_uci", metric="AUROC", at_least={}),
    BenchedStudy(
        name="synthetic_xray",
        data="pneumoniamnist",
        metric="AUROC",
        at_least={},
        draws=1,
        note="The beats of anomaly are of one patient, so that epsilon protects a beat. Without "
        "noise, three principal components of all normal beats together find as much.",
    ),
    BenchedStudy(
        name="cifar10_reference",
        data="cifar10_jpg_subset",
        metric="accuracy",
        seeds=3,  # more than four minutes each
        at_least={},
        draws=1,
        plain_pytorch=True,
    ),
)
STUDIES = {study.name: study for study in _ALL}


@contextlib.contextmanager
def data_of(study: BenchedStudy, data: Path) -> Iterator[Path | None]:
    """The folder with the study's data; None where it is not there."""
    if study.data is not None:
        yield data / study.data if (data / study.data).is_dir() else None
        return
    with tempfile.TemporaryDirectory() as folder:
        write_generated(study.name, Path(folder))
        yield Path(folder)


def opened(study: BenchedStudy, data: Path) -> Gathered:
    """Read the study and everybody's records. Raises BadInput."""
    return gather(study.folder, data)
