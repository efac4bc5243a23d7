"""The figures of a real rehearsal's report, beside scikit-learn's on the same held-out rows."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, roc_auc_score
from tests.support.small_federation import read_json, wardround, write_study

from wardround.canonical import Json
from wardround.study.files import read_study_plan
from wardround_client.data.description import read_description
from wardround_client.data.encoding import encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import split

pytestmark = pytest.mark.federation


def pooled_rows(folder: Path, model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of every hospital's held-out patients under the released model."""
    plan = read_study_plan(folder / "study" / "study.toml")
    parameters = load_file(model)
    labels, scores = [], []
    for path in sorted((folder / "study" / "hospitals").glob("*.toml")):
        description = read_description(path)
        records = encode(read_records(description, plan.contract, folder / "data"), plan.contract)
        _, held = split(records, dataset=description.dataset, fraction=plan.evaluation.held_out)
        logits = held.features @ parameters["weight"][0] + parameters["bias"][0]
        labels.append(held.labels)
        scores.append(1 / (1 + np.exp(-logits.astype(np.float64))))
    return np.concatenate(labels).astype(np.int64), np.concatenate(scores)


@pytest.mark.slow
def test_every_metric_of_a_rehearsal_equals_scikit_learns_on_its_pooled_held_out_rows(
    tmp_path: Path,
) -> None:
    write_study(tmp_path, ["alpha", "beta", "gamma", "delta"])
    out = tmp_path / "out"
    done = wardround(
        *("rehearse", str(tmp_path / "study"), "--data", str(tmp_path / "data")),
        *("--out", str(out), "--json"),
    )
    assert done.code == 0, done.err
    evaluation: Json = read_json(Path(done.json["report"]).with_suffix(".json"))["evaluation"]
    metrics = evaluation["metrics"]
    labels, scores = pooled_rows(tmp_path, Path(done.json["model"]))
    said = scores >= evaluation["threshold"]
    tn, fp, fn, tp = confusion_matrix(labels, said).ravel()
    due = {
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "accuracy": accuracy_score(labels, said),
        "prevalence": labels.mean(),
    }
    assert (metrics["patients"], metrics["positives"]) == (len(labels), labels.sum())
    for name, value in due.items():
        assert metrics[name]["value"] == pytest.approx(value, abs=1e-6), name
    exact = roc_auc_score(labels, scores)
    assert metrics["auroc_lower"] - 1e-6 <= exact <= metrics["auroc_upper"] + 1e-6
    assert metrics["brier"]["value"] == pytest.approx(brier_score_loss(labels, scores), abs=1e-5)
