"""Real tables, prognoses and series: one outcome, five patients, 40 % missing. Honest answers."""

import csv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.support.quality_wards import DATA, STUDIES, described, judged, plan_with

from wardround.quality.disclosure import told
from wardround.quality.verdict import Reason, Verdict
from wardround_client.quality import Looked

HEART, BRCA, ICU = (
    DATA / "heart_disease_uci",
    DATA / "tcga_brca_survival",
    DATA / "physionet2012_icu",
)
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present")
LARGEST = "northeast"


def reasons(looked: Looked) -> set[Reason]:
    return set(looked.assessment.reasons)


def rewritten(path: Path, folder: Path, change) -> Path:
    """The hospital's file in a folder of its own, its rows changed."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    with (folder / path.name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(change(rows))
    return folder


def heart(tmp_path, change):
    wards = {
        name: (described("heart_disease", name), HEART)
        for name in ("cleveland", "hungarian", "switzerland")
    }
    folder = rewritten(HEART / "processed.va.data", tmp_path, change)
    wards["va"] = (described("heart_disease", "va"), folder)
    return judged(plan_with("heart_disease", epsilon=3.0), wards)["va"]


def test_a_real_table_of_one_class(tmp_path):
    found = heart(tmp_path, lambda rows: [row for row in rows if row[-1] != "0"])
    assert found.assessment.verdict is Verdict.READY_WITH_REMARKS
    assert Reason.OUTCOME_RARE in reasons(found)
    apart = {(each.name, each.what): each for each in found.differences}
    assert apart["heart_disease", "positive"].own == 1.0


def test_a_real_table_of_five_patients_is_not_ready_and_compared_in_nothing(tmp_path):
    found = heart(tmp_path, lambda rows: rows[:5])
    assert found.assessment.verdict is Verdict.NOT_READY
    assert Reason.TOO_FEW in reasons(found)
    assert found.differences == ()


def test_a_real_table_with_40_percent_missing_is_told_which_columns(tmp_path):
    random = np.random.default_rng(4)

    def blanked(rows):
        return [
            [cell if at in (0, 1, 2, 13) or random.random() > 0.4 else "?" for at, cell in row]
            for row in (list(enumerate(row)) for row in rows)
        ]

    found = heart(tmp_path, blanked)
    assert found.assessment.verdict is Verdict.READY_WITH_REMARKS
    assert Reason.MUCH_MISSING in reasons(found)
    named = {each.column for each in found.assessment.findings}
    assert {"resting_blood_pressure", "cholesterol"} <= named


def brca(tmp_path, change):
    """What the largest region sees once its file was changed."""
    names = sorted(path.stem for path in (STUDIES / "brca_survival" / "hospitals").glob("*.toml"))
    wards = {name: (described("brca_survival", name), BRCA) for name in names}
    for path in BRCA.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rewritten(BRCA / "brca.csv", tmp_path, change)
    wards[LARGEST] = (wards[LARGEST][0], tmp_path)
    return judged(plan_with("brca_survival", epsilon=3.0), wards)[LARGEST]


def test_a_prognosis_whose_follow_up_ends_early_is_told_so(tmp_path):
    def cut(rows):
        time, event = rows[0].index("T"), rows[0].index("E")
        for row in rows[1:]:
            if float(row[time]) > 365:
                row[time], row[event] = "365", "0"
        return rows

    found = brca(tmp_path, cut)
    said = [str(each) for each in found.assessment.findings]
    assert any("are followed up to the horizon" in each for each in said)
    assert Reason.HARDLY_USED in reasons(found)
    # A verifier holds "an outcome is rare" against the counts that are told beside it.
    rare = any(told(count) is None for count in found.own.outcomes)
    assert (Reason.OUTCOME_RARE in reasons(found)) == rare
    apart = {each.what: each for each in found.differences if each.name == "death"}
    assert {what.split()[0] for what in apart} == {"event", "left"}


@pytest.mark.slow
def test_a_prognosis_without_any_event_is_told_so(tmp_path):
    def nobody(rows):
        event = rows[0].index("E")
        return [rows[0], *([*row[:event], "0", *row[event + 1 :]] for row in rows[1:])]

    found = brca(tmp_path, nobody)
    assert Reason.OUTCOME_RARE in reasons(found)
    assert any("event: no patient at all" in str(each) for each in found.assessment.findings)


@pytest.mark.slow
def test_real_stays_in_intensive_care_with_40_percent_of_the_measurements_gone(tmp_path):
    random = np.random.default_rng(8)
    with (
        zipfile.ZipFile(ICU / "set-a.zip") as archive,
        zipfile.ZipFile(tmp_path / "set-a.zip", "w") as thinner,
    ):
        for name in archive.namelist():
            lines = archive.read(name).decode().splitlines()
            kept = [
                line
                for at, line in enumerate(lines)
                if at == 0 or line.startswith("00:00") or random.random() > 0.4
            ]
            thinner.writestr(name, "\n".join(kept) + "\n")
    (tmp_path / "Outcomes-a.txt").write_bytes((ICU / "Outcomes-a.txt").read_bytes())
    own = [{"source": "ICUType", "values": ["4"]}]
    few = [*own, {"source": "RecordID", "parts": {"of": 400, "own": [0]}}]
    wards = {
        "coronary": (described("icu_mortality", "coronary"), ICU),
        "cardiac-surgery": (described("icu_mortality", "cardiac-surgery"), ICU),
        "medical": (described("icu_mortality", "medical"), tmp_path),
        "surgical": (described("icu_mortality", "surgical", rows=few), ICU),
    }
    found = judged(plan_with("icu_mortality", epsilon=3.0), wards)
    medical = found["medical"]
    apart = {each.name: each for each in medical.differences if each.what == "mean"}
    thinned = apart["heart_rate: measured"]
    assert thinned.own < 0.7 * thinned.others
    assert Reason.DIFFERS in reasons(medical)
    assert medical.assessment.verdict is Verdict.READY_WITH_REMARKS
    assert any("measured in steps" in name for name in apart)
    assert found["surgical"].assessment.verdict is Verdict.NOT_READY
    assert Reason.TOO_FEW in reasons(found["surgical"])
    assert found["surgical"].differences == ()
