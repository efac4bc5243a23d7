"""Studies of every family, small: as a user would write them, checked as study.toml is."""

from wardround.study.files import checked
from wardround.study.manifest import StudyPlan

BINARY = {"name": "sick", "description": "sick", "positive": "yes"}
CLASSES = {
    "name": "finding",
    "description": "finding",
    "kind": "classes",
    "classes": ["normal", "benign", "malignant"],
}
EVENT = {
    "name": "death",
    "description": "death",
    "kind": "time-to-event",
    "positive": "dead",
    "time": {"unit": "d", "edges": [100.0, 200.0, 400.0]},
}
MANY = {
    "name": "toxicity",
    "description": "assays",
    "kind": "targets",
    "targets": [{"name": "liver", "description": "x"}, {"name": "heart", "description": "x"}],
}
NUMBERS = {
    "name": "potency",
    "description": "assays",
    "kind": "targets",
    "targets": [
        {"name": "liver", "description": "x", "range": [0.0, 10.0]},
        {"name": "heart", "description": "x", "range": [-1.0, 1.0]},
    ],
}
NONE = {"name": "strange", "description": "strange", "kind": "none", "positive": "yes"}

TABLE = [
    {"name": "age", "kind": "continuous", "description": "age", "unit": "a", "range": [0, 100]},
    {"name": "male", "kind": "binary", "description": "sex"},
    {
        "name": "ward",
        "kind": "categorical",
        "description": "ward",
        "categories": ["a", "b"],
        "may_be_missing": True,
    },
]
MOLECULE = [
    {
        "name": "smiles",
        "kind": "fingerprint",
        "description": "molecule",
        "grams": {"size": 32, "longest": 3},
    }
]
GRID = {"steps": 6, "step": 1.0, "unit": "h"}
SERIES = [
    {"name": "pulse", "kind": "series", "description": "pulse", "unit": "/min", "range": [0, 300]},
    {"name": "male", "kind": "binary", "description": "sex"},
]


def image(side=20, channels=1):
    """The columns of a study of images."""
    return [
        {
            "name": "scan",
            "kind": "image",
            "description": "scan",
            "range": [0, 255],
            "shape": [channels, side, side],
        }
    ]


def study_value(family, model, *, label=BINARY, columns=TABLE, hidden=(), **more):
    """A study as the table that TOML gives; `more` are whole sections, or `grid`."""
    grid = {"grid": more.pop("grid")} if "grid" in more else {}
    return {
        "schema": "wardround.study/1",
        "name": more.pop("name", "small"),
        "title": "Small",
        "purpose": "Show a family.",
        "contact": "research@example.org",
        "task": {"family": family, "model": model, "hidden": list(hidden)},
        "contract": {"patient_key": "patient", "label": label, "columns": columns} | grid,
        "privacy": {"mechanism": "none", "clip_norm_l2": 1.0, "sampling_rate": 0.5},
        "training": {"local_steps": 1, "learning_rate": 1.0, "expected_batch": 10.0},
        "rounds": {"count": 2, "quorum": 3},
        "evaluation": {"registered": "2026-11-22"},
    } | more


def study_plan(*args, **more):
    """The checked study."""
    return checked(StudyPlan, study_value(*args, **more), what="study")


STUDIES = {
    "logistic regression": lambda: study_plan("risk", "logistic-regression"),
    "mlp": lambda: study_plan("risk", "mlp", hidden=(5, 4)),
    "classes of a table": lambda: study_plan("risk", "mlp", hidden=(5,), label=CLASSES),
    "reference cnn": lambda: study_plan("image", "reference-cnn", columns=image()),
    "reference cnn of classes": lambda: study_plan(
        "image", "reference-cnn", columns=image(), label=CLASSES
    ),
    "small cnn": lambda: study_plan(
        "image", "small-cnn", columns=image(), hidden=(4, 6), label=CLASSES
    ),
    "resnet": lambda: study_plan("image", "resnet18", columns=image(12), label=CLASSES),
    "hazards": lambda: study_plan("survival", "logistic-regression", label=EVENT),
    "deep hazards": lambda: study_plan("survival", "mlp", hidden=(6,), label=EVENT),
    "gru": lambda: study_plan("series", "gru", hidden=(5, 4), columns=SERIES, grid=GRID),
    "lstm": lambda: study_plan(
        "series", "lstm", hidden=(5,), columns=SERIES, grid=GRID, label=CLASSES
    ),
    "several targets": lambda: study_plan(
        "response", "mlp", hidden=(8,), columns=MOLECULE, label=MANY
    ),
    "several numbers": lambda: study_plan(
        "response", "mlp", hidden=(8,), columns=MOLECULE, label=NUMBERS
    ),
    "dense autoencoder": lambda: study_plan(
        "autoencoder", "dense-autoencoder", hidden=(4, 2), label=NONE
    ),
    "convolutional autoencoder": lambda: study_plan(
        "autoencoder",
        "convolutional-autoencoder",
        hidden=(4, 3),
        columns=image(9),
        label=NONE,
    ),
}
