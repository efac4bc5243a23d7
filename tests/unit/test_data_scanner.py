"""Another scanner's pixels: what its files count becomes the contract's range, or is refused."""

import numpy as np
import pytest
from tests.support.described_data import description
from tests.support.stored_pictures import (
    GREY,
    RULE,
    SOURCE,
    dicom,
    folder_with,
    picture,
    read,
    refused,
    scan,
)

from wardround.errors import BadInput
from wardround_client.data.check import Verdict, check
from wardround_client.data.description import ImageFiles
from wardround_client.data.images import in_unit
from wardround_client.prediction.described import read_described


def twice(tmp_path, stored, suffix="png"):
    """Two rows with the same picture."""
    content = stored if isinstance(stored, bytes) else picture(stored)
    return folder_with(tmp_path, **{f"one_{suffix}": content, f"two_{suffix}": content})


def checked(folder, agreed, **images):
    return check(description(RULE, [SOURCE], images=images), agreed, folder)


def test_twelve_bits_in_a_16_bit_png_become_the_contracts_range(tmp_path):
    deep = (GREY.astype(np.int64) * 4095 // 255).astype(np.uint16)
    folder = twice(tmp_path, deep)
    got = read(folder, scan(), images={"stored_range": [0, 4095]})
    np.testing.assert_allclose(got[0, 0], [[-1, 1], [-0.6, 0.6]], atol=1e-6)


def test_where_small_values_are_white_they_are_turned_over(tmp_path):
    folder = twice(tmp_path, 255 - GREY)
    got = read(folder, scan(), images={"photometric": "inverted"})
    np.testing.assert_allclose(got[0, 0], [[-1, 1], [-0.6, 0.6]], atol=1e-6)
    deep = 4080 - GREY.astype(np.uint16) * 16
    got = read(
        twice(tmp_path, deep),
        scan(),
        images={"stored_range": [0, 4080], "photometric": "inverted"},
    )
    np.testing.assert_allclose(got[0, 0], [[-1, 1], [-0.6, 0.6]], atol=1e-6)


def test_slope_and_intercept_take_stored_values_to_the_contracts_unit(tmp_path):
    agreed = scan(low=-1000, high=400)
    folder = twice(tmp_path, np.array([[24, 1424], [724, 2000]], dtype=np.uint16))
    got = read(folder, agreed, images={"slope": 1.0, "intercept": -1024.0})
    np.testing.assert_allclose(got[0, 0], [[-1, 1], [0, 1]], atol=1e-6)


def test_a_dicom_file_says_it_itself_and_is_not_told_again(tmp_path):
    stored = np.array([[24, 1424], [724, 724]], dtype=np.uint16)
    agreed = scan(low=-1000, high=400)
    folder = twice(tmp_path, dicom(stored, intercept=-1024.0), "dcm")
    np.testing.assert_allclose(read(folder, agreed)[0, 0], [[-1, 1], [0, 0]], atol=1e-6)
    for images in ({"intercept": -1024.0}, {"photometric": "inverted"}):
        said = refused(folder, agreed, images=images)
        assert "2 of 2 files: the file is DICOM, whose header says" in said
    # What a detector counts to is in no header: this one stays.
    got = read(folder, agreed, images={"stored_range": [-1000, 400]})
    np.testing.assert_allclose(got[0, 0], [[-1, 1], [0, 0]], atol=1e-6)


def test_pixels_beyond_what_was_declared_are_counted_and_refused_or_clipped(tmp_path):
    deep = GREY.astype(np.uint16) * 20
    folder = twice(tmp_path, deep)
    found = checked(folder, scan(), stored_range=[0, 4095])
    assert found.verdict is Verdict.NOT_READY
    assert found.to_fix == ("column scan: 2 of 2 files: the file has pixels beyond `stored_range`",)
    assert "beyond `stored_range`" in refused(folder, scan(), images={"stored_range": [0, 4095]})
    nearest = {"stored_range": [0, 4095], "beyond": "nearest"}
    found = checked(folder, scan(), **nearest)
    assert found.verdict is Verdict.READY_WITH_REMARKS
    assert found.remarks == (
        "column scan: 2 of 2 images have pixels beyond `stored_range`, taken as its nearest end, "
        "as declared",
    )
    assert read(folder, scan(), images=nearest)[0].max() == 1.0


def test_the_check_says_how_much_is_clipped_and_what_to_declare(tmp_path):
    bright = np.arange(100, dtype=np.uint16).reshape(10, 10) * 41
    found = checked(twice(tmp_path, bright), scan(10))
    (remark,) = found.remarks
    assert "images that were looked at have most of their pixels outside 0..255" in remark
    assert "93% of their pixels are clipped" in remark
    assert "`stored_range = [0, 4095]`" in remark
    assert "4059" not in remark  # the brightest pixel
    assert checked(twice(tmp_path, bright), scan(10), stored_range=[0, 4095]).remarks == ()


def test_the_check_says_when_few_pixels_are_clipped_and_when_a_range_is_hardly_used(tmp_path):
    mostly = np.where(np.arange(100).reshape(10, 10) < 90, 40, 300).astype(np.uint16)
    (remark,) = checked(twice(tmp_path, mostly), scan(10)).remarks
    assert remark == (
        "column scan: of images looked at 10% of their pixels are clipped (outside 0..255 1, taken "
        "as the range's nearest end)"
    )
    (remark,) = checked(twice(tmp_path, GREY), scan(high=4095)).remarks
    assert "lie in the lowest 20% of 0..4095" in remark
    assert "`stored_range = [0, 255]`" in remark


def test_of_a_patient_whose_pixels_lie_beyond_nothing_is_predicted_and_of_others_it_is(tmp_path):
    folder = folder_with(
        tmp_path, one_png=picture(GREY.astype(np.uint16) * 20), two_png=picture(GREY)
    )
    asked = description(RULE, [SOURCE], images={"stored_range": [0, 4095]})
    found = read_described(asked, scan(), folder)
    assert found.encoded.patients == ("p1",)
    assert found.outside == {"p0": ("scan: the file has pixels beyond `stored_range`",)}


@pytest.mark.parametrize(
    ("images", "why"),
    [
        ({"slope": 0}, "slope of 0"),
        ({"stored_range": [255, 0]}, "low < high"),
        ({"stored_range": [0, 1], "intercept": 3}, "not both"),
        ({"beyond": "nearest"}, "belongs to a `stored_range`"),
        ({"photometric": "MONOCHROME1"}, "photometric"),
    ],
)
def test_pixels_that_are_described_in_two_ways_are_refused(images, why):
    with pytest.raises(BadInput, match=why):
        description(RULE, [SOURCE], images=images)


def test_a_description_without_it_changes_no_pixel():
    pixels = np.random.default_rng(1).random((1, 3, 3)).astype(np.float32)
    assert in_unit(pixels, ImageFiles(), (0.0, 1.0)) is pixels


def test_a_column_of_pictures_is_told_where_its_slope_belongs(tmp_path):
    convert = {"to": "1", "scale": 2.0}
    told = check(description(RULE, [SOURCE | {"convert": convert}]), scan(), twice(tmp_path, GREY))
    assert "slope and intercept of pixels are in `[images]`" in told.to_fix[0]
