"""Studies of family gan, small enough for tests: tables and images, binary and classes."""

from tests.support.study_plans import CLASSES, TABLE, image, study_plan

MADE = {"hidden": [8], "latent": 4, "steps": 2, "batch": 16, "risk_records": 64}
NAMES = ("harbour", "lakeside", "northside")


def plan_of(*, model="dense-gan", hidden=(6,), columns=TABLE, synthesis=None, **more):
    made = MADE | (synthesis or {})
    whole = {"family": "gan", "model": model, "hidden": list(hidden), "synthesis": made}
    return study_plan("gan", model, columns=columns, task=whole, **more)


PLANS = {
    "table": plan_of,
    "table of classes": lambda: plan_of(label=CLASSES, hidden=(6, 5)),
    "images": lambda: plan_of(model="convolutional-gan", hidden=(4, 3), columns=image(20)),
    "images in colour": lambda: plan_of(
        model="convolutional-gan", hidden=(4,), columns=image(19, 3), label=CLASSES
    ),
}
