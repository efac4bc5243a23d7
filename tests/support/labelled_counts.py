"""Studies in memory with a label that is not one of yes or no, and a hospital's counts of them."""

import numpy as np
from tests.support.labelled_groups import CLASSES, EDGES, LABELS, SCALES, patients

from wardround.canonical import Json
from wardround.evaluation.layout import Outcomes
from wardround.masking.quantise import Lanes
from wardround.privacy.accounting import gaussian_count_noise
from wardround.protocol.specs import evaluation_layout
from wardround.study.contract import Label, LabelKind
from wardround.study.manifest import Study

_TARGETS = [{"name": name, "description": "assay"} for name in LABELS]
_RANGES = [{"range": [scale.low, scale.low + scale.width], "unit": scale.unit} for scale in SCALES]
_PARTS: dict[str, tuple[str, Json]] = {
    "classes": ("risk", {"kind": "classes", "classes": list(CLASSES)}),
    "labels": ("response", {"kind": "targets", "targets": _TARGETS}),
    "numbers": (
        "response",
        {
            "kind": "targets",
            "targets": [a | b for a, b in zip(_TARGETS, _RANGES, strict=True)],
        },
    ),
    "survival": (
        "survival",
        {"kind": "time-to-event", "positive": "dead", "time": {"unit": "d", "edges": list(EDGES)}},
    ),
}
ANGINA, AGE = {"column": "angina"}, {"column": "age", "edges": [65]}
CROSSED: Json = {"crossed": [ANGINA, AGE]}
OF_EVERY_LABEL = tuple(_PARTS)


def with_label(kind: str, contract: Json, evaluation: Json) -> Json:
    """Changes that turn the study of yes or no into one with a label of this kind."""
    family, parts = _PARTS[kind]
    label = {"name": "disease", "description": "narrowing"} | parts
    model = "mlp" if family == "response" else "logistic-regression"
    hidden = [4] if family == "response" else []
    return {
        "task": {"family": family, "model": model, "hidden": hidden},
        "contract": contract | {"label": label},
        "evaluation": {"bins": 100, "time_bins": 2} | evaluation,
    }


def counts_of_any_label(study: Study, name: str) -> Lanes:
    """600 patients; of who has angina and is 65 or older the outputs are those of others.

    Groups are angina crossed with age, or angina alone. Age is what the model rests on.
    """
    kind, plan, seed = _kind_of(study.contract.label), study.evaluation, sum(name.encode())
    outcomes = patients(kind, seed, 600, worse=3)
    coins = np.random.default_rng(seed).permutation(outcomes.outputs)
    assert outcomes.groups is not None
    columns = {"angina by age": outcomes.groups[:, 0], "angina": outcomes.groups[:, 0] // 2}
    asked = plan.shuffled(study.contract)
    raw = evaluation_layout(study).count(
        Outcomes(
            outcomes.truth,
            outcomes.outputs,
            groups=np.stack([columns[each.name] for each in plan.subgroups], axis=1),
            shuffled=np.array([coins if each == "age" else outcomes.outputs for each in asked]),
        )
    )
    if plan.counts == "exact":
        return raw.exact()
    assert plan.epsilon is not None
    assert study.privacy.delta is not None
    randomness = np.random.default_rng(seed).bytes
    return raw.noised(gaussian_count_noise(plan.epsilon, study.privacy.delta), randomness)


def _kind_of(label: Label) -> str:
    if label.kind is LabelKind.CLASSES:
        return "classes"
    if label.time is not None:
        return "survival"
    return "numbers" if label.numbers else "labels"
