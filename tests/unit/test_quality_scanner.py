"""Real chest X-rays, and one hospital whose scanner stores them in another way."""

import numpy as np
import pytest
from tests.support.quality_wards import DATA, described, judged, plan_with, records_of

from wardround.quality.verdict import Reason, Verdict
from wardround_client.data.check import check

SOURCE = DATA / "pneumoniamnist"
OTHER = "fourth"
pytestmark = pytest.mark.skipif(not SOURCE.is_dir(), reason="skipped: ../shared/data not present")
PLAN = plan_with("chest_xray", epsilon=3.0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The same X-rays as other scanners store them, a folder each."""
    with np.load(SOURCE / "pneumoniamnist.npz") as archive:
        images, labels = archive["train_images"][:1200], archive["train_labels"][:1200]
    found = {}
    for name, pixels in {
        "same": images,
        "inverted": 255 - images,
        "deep": images.astype(np.uint16) * 16,
        "deep_inverted": 4080 - images.astype(np.uint16) * 16,
        "one_class": images,
    }.items():
        found[name] = tmp_path_factory.mktemp(name)
        own = np.ones_like(labels) if name == "one_class" else labels
        np.savez(found[name] / "pneumoniamnist.npz", train_images=pixels, train_labels=own)
    return found


def wards(stored, other: str, **images: object) -> dict[str, tuple]:
    files = {"folder": "pneumoniamnist.npz", "array": "train_images", **images}
    return {
        name: (
            described("chest_xray", name, **({"images": files} if name == OTHER else {})),
            stored[other if name == OTHER else "same"],
        )
        for name in ("first", "second", "third", OTHER)
    }


def reasons(looked):
    return set(looked.assessment.reasons)


def test_with_one_kind_of_scanner_nobody_is_said_to_differ(stored):
    found = judged(PLAN, wards(stored, "same"))
    assert {looked.assessment.verdict for looked in found.values()} == {Verdict.READY}
    apart = {(each.name, each.what) for each in found["first"].differences}
    assert {("xray: intensity", "mean"), ("xray: sharpness", "mean")} <= apart


def test_turned_over_pixels_differ_from_the_others_and_only_there(stored):
    found = judged(PLAN, wards(stored, "inverted"))
    other = found.pop(OTHER)
    assert reasons(other) == {Reason.DIFFERS}
    named = {each.column for each in other.assessment.findings}
    assert named & {"xray: intensity", "xray: at the low end", "xray: at the high end"}
    assert all("another scanner" in each.advice for each in other.assessment.findings)


def test_pixels_of_twelve_bits_are_not_ready_until_their_range_is_declared(stored):
    found = judged(PLAN, wards(stored, "deep"))[OTHER]
    assert found.assessment.verdict is Verdict.NOT_READY
    assert {Reason.UNIT_OR_SCALE, Reason.HARDLY_USED} <= reasons(found)
    (column,) = found.own.columns
    assert column.clipped is not None
    assert column.clipped > 0.9
    declared = judged(PLAN, wards(stored, "deep", stored_range=[0, 4080]))[OTHER]
    assert declared.assessment.verdict is Verdict.READY
    (described_as, folder) = wards(stored, "deep")[OTHER]
    (remark,) = check(described_as, PLAN.contract, folder).remarks
    assert "`stored_range = [0, 4095]`" in remark


def test_with_range_and_photometric_declared_the_features_are_the_same(stored):
    files = {"stored_range": [0, 4080], "photometric": "inverted"}
    turned = records_of(PLAN, wards(stored, "deep_inverted", **files)[OTHER])
    plain = records_of(PLAN, wards(stored, "same")[OTHER])
    np.testing.assert_allclose(turned.train.features, plain.train.features, atol=1e-5)


def test_a_hospital_with_one_class_is_told_so_and_takes_part(stored):
    found = judged(PLAN, wards(stored, "one_class"))[OTHER]
    assert found.assessment.verdict is Verdict.READY_WITH_REMARKS
    assert Reason.OUTCOME_RARE in reasons(found)
    assert "no patient at all" in str(found.assessment.findings[0])
