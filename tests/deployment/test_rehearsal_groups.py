"""Groups and importance of a real rehearsal, beside scikit-learn's on the same held-out rows."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score
from tests.support.small_federation import read_json, wardround, write_study

from wardround.canonical import Json
from wardround.study.files import read_study_plan
from wardround_client.data.description import read_description
from wardround_client.data.encoding import encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import split

pytestmark = [pytest.mark.federation, pytest.mark.slow]

HOSPITALS = ["alpha", "beta", "gamma", "delta"]
GROUPS = '[{column="smoker"},{column="age",edges=[40,60]}]'
EDGES = (40.0, 60.0)


def rehearsed(folder: Path, *settings: str) -> tuple[Json, Path]:
    write_study(folder, HOSPITALS)
    done = wardround(
        *("rehearse", str(folder / "study"), "--data", str(folder / "data")),
        *("--out", str(folder / "out"), "--json"),
        *(part for setting in settings for part in ("--set", setting)),
        timeout_s=400,
    )
    assert done.code == 0, done.err
    report = read_json(Path(done.json["report"]).with_suffix(".json"))
    assert wardround("audit", "verify", str(done.json["bundle"])).code == 0
    page = Path(done.json["report"]).read_text()
    assert "How well the model does for whom: age" in page
    assert "AUROC lost when a column is shuffled" in page
    return report["evaluation"], Path(done.json["model"])


def rows_by_hospital(folder: Path, model: Path) -> list[tuple[np.ndarray, ...]]:
    """Outcome, score, smoker and band of age of every held-out patient, hospital by hospital."""
    plan = read_study_plan(folder / "study" / "study.toml")
    parameters, found = load_file(model), []
    for path in sorted((folder / "study" / "hospitals").glob("*.toml")):
        description = read_description(path)
        records = read_records(description, plan.contract, folder / "data")
        held = split(
            encode(records, plan.contract),
            dataset=description.dataset,
            fraction=plan.evaluation.held_out,
        )[1]
        table = records.values.set_axis(list(records.patients)).loc[list(held.patients)]
        logits = held.features @ parameters["weight"][0] + parameters["bias"][0]
        scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
        bands = np.digitize(table["age"].to_numpy(float), EDGES)
        found.append((held.labels, scores, table["smoker"].to_numpy(int), bands))
    return found


def test_every_group_of_a_rehearsal_equals_scikit_learns_on_the_rows_that_are_counted(
    tmp_path: Path,
) -> None:
    evaluation, model = rehearsed(
        tmp_path, f"evaluation.subgroups={GROUPS}", "evaluation.importance=true"
    )
    hospitals, checked = rows_by_hospital(tmp_path, model), 0
    for grouping, at in zip(evaluation["subgroups"], (2, 3), strict=True):
        for place, group in enumerate(grouping["groups"]):
            if group["standing"] != "shown" or group["group"].startswith("not"):
                continue
            truth, scores = [], []
            for rows in hospitals:
                inside = rows[at] == place
                own = rows[0][inside]
                # A rule of the product, said again: five of either outcome, or not counted apart.
                if min((own == 0).sum(), (own == 1).sum()) >= 5:
                    truth.append(own)
                    scores.append(rows[1][inside])
            # A hospital may also have withheld a large group, beside a small one.
            due = np.concatenate(truth)
            assert group["patients"] <= len(due)
            if group["patients"] == len(due):
                exact = roc_auc_score(due, np.concatenate(scores))
                assert group["auroc"]["value"] == pytest.approx(exact, abs=3e-3)
                said = np.concatenate(scores) >= 0.5
                sensitivity = said[due == 1].mean()
                assert group["sensitivity"]["value"] == pytest.approx(sensitivity, abs=1e-6)
                checked += 1
    assert checked >= 2
    assert {each["column"] for each in evaluation["importance"]} == {"age", "marker", "smoker"}
    assert all(each["lost"]["low"] < each["lost"]["high"] for each in evaluation["importance"])


def test_noised_groups_of_a_rehearsal_verify_and_say_how_much_they_do_not_know(
    tmp_path: Path,
) -> None:
    evaluation, _ = rehearsed(
        tmp_path,
        f"evaluation.subgroups={GROUPS}",
        'evaluation.importance=["age"]',
        'evaluation.counts="noised"',
        "evaluation.epsilon=3.0",
        "evaluation.bins=4",
    )
    smoker = evaluation["subgroups"][0]
    assert smoker["count_noise"] > 20
    told = [group["auroc"] for group in smoker["groups"] if group["auroc"]]
    assert all(each["noise_high"] - each["noise_low"] > 0.1 for each in told)
    assert [each["column"] for each in evaluation["importance"]] == ["age"]
