"""Pictures, DICOM files, archives: headers first, sizes bounded, resampled by area."""

import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000
from tests.support.described_data import write
from tests.support.stored_pictures import (
    GREY,
    dicom,
    folder_with,
    picture,
    read,
    refused,
    scan,
)

from wardround_client.data import images as module
from wardround_client.data import pixels
from wardround_client.data.images import resampled


def test_a_picture_is_read_as_its_pixels(tmp_path):
    deep = np.array([[0, 65535], [0, 0]], dtype=np.uint16)
    folder = folder_with(tmp_path, one_png=picture(GREY), two_png=picture(deep))
    got = read(folder, scan())
    np.testing.assert_allclose(got[0, 0], [[-1, 1], [-0.6, 0.6]], atol=1e-6)
    assert got[1, 0].tolist() == [[-1, 1], [-1, -1]]  # 65535 lies beyond the window


def test_a_jpeg_is_read_within_its_own_loss(tmp_path):
    random = np.random.default_rng(1)
    smooth = np.kron(random.integers(0, 256, (4, 4)), np.ones((8, 8))).astype(np.uint8)
    content = picture(smooth, "JPEG", quality=95)
    got = read(folder_with(tmp_path, one_JPG=content), scan(32))
    assert np.abs(got[0, 0] - (smooth / 127.5 - 1)).mean() < 0.02


def test_colours_keep_three_channels_or_become_grey_but_grey_gets_no_colours(tmp_path):
    red = np.zeros((2, 2, 3), dtype=np.uint8)
    red[..., 0] = 255
    folder = folder_with(tmp_path, one_png=picture(red))
    assert read(folder, scan(channels=3))[0, :, 0, 0].tolist() == [1, -1, -1]
    np.testing.assert_allclose(read(folder, scan())[0], 76 / 127.5 - 1, atol=1e-6)  # .299 of 255
    folder = folder_with(tmp_path, one_png=picture(GREY))
    assert "has 1 channels, 3 are due" in refused(folder, scan(channels=3))


def test_resampling_keeps_means_and_weighs_by_area():
    random = np.random.default_rng(2)
    image = random.random((2, 7, 5)).astype(np.float32)
    for size in ((7, 5), (3, 4), (1, 1), (10, 12)):
        got = resampled(image, size)
        assert got.shape == (2, *size)
        np.testing.assert_allclose(got.mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-5)
    step = np.array([[[0.0, 1.0, 2.0]]], dtype=np.float32)
    np.testing.assert_allclose(resampled(step, (1, 2)), [[[1 / 3, 5 / 3]]], rtol=1e-6)


def test_a_dicom_slice_is_rescaled_windowed_and_resampled(tmp_path):
    stored = np.array([[0, 0, 1000, 1000]] * 4, dtype=np.int16)
    content = dicom(stored, slope=2.0, intercept=-1000.0)
    folder = folder_with(tmp_path, one_dcm=content)
    got = read(folder, scan(low=-1000, high=1000))
    np.testing.assert_allclose(got[0, 0], [[-1, 1], [-1, 1]], atol=1e-6)


def test_values_that_are_white_when_small_are_turned_over(tmp_path):
    stored = np.array([[0, 4095], [4095, 0]], dtype=np.uint16)
    content = dicom(stored, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    got = read(folder_with(tmp_path, one_dcm=content), scan(high=4095))
    assert got[0, 0].tolist() == [[1, -1], [-1, 1]]


FRAME = np.zeros((2, 2), dtype=np.uint16)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (lambda: b"no dicom at all", "is not a DICOM file"),
        (lambda: dicom(FRAME)[:200], "a DICOM file"),
        (lambda: dicom(FRAME, NumberOfFrames=3), "has 3 frames, and says of none where it lies"),
        (lambda: dicom(FRAME, SamplesPerPixel=3, PhotometricInterpretation="RGB"), "has colours"),
        (lambda: dicom(FRAME.astype(np.int16), PhotometricInterpretation="MONOCHROME1"), "signed"),
        (lambda: dicom(FRAME, Rows=60_000, Columns=60_000), "3600000000 pixels"),
    ],
)
def test_a_dicom_file_that_is_no_single_grey_frame_is_refused(tmp_path, content, why):
    said = refused(folder_with(tmp_path, one_dcm=content()), scan())
    assert "column scan: 1 of 1 files: the file" in said
    assert why in said
    assert "Doe" not in said
    assert "one.dcm" not in said


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (dicom(FRAME, Rows=3), "another number of pixels than its header says"),
        (dicom(FRAME, syntax=JPEG2000), "packed pixels that are not what its syntax says"),
    ],
)
def test_pixels_that_are_others_than_the_header_says_are_refused(tmp_path, content, why):
    assert why in refused(folder_with(tmp_path, one_dcm=content), scan())


def test_a_name_of_a_patient_is_never_parsed(tmp_path, monkeypatch):
    seen = []
    whole = pydicom.dcmread

    def watched(*args, **options):
        seen.append(whole(*args, **options))
        return seen[-1]

    monkeypatch.setattr(pydicom, "dcmread", watched)
    read(folder_with(tmp_path, one_dcm=dicom(FRAME)), scan())
    assert seen
    assert all("PatientName" not in file for file in seen)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("one_png", b"GIF89a", "is neither PNG nor JPEG"),
        ("one_png", picture(np.zeros((2, 2), dtype=np.uint8), "GIF"), "is neither PNG nor JPEG"),
        ("one_png", picture(np.zeros((2, 2, 4), dtype=np.uint8)), "mode RGBA"),
        ("one_tif", b"II*\0", "another suffix than"),
    ],
)
def test_another_picture_is_refused(tmp_path, name, content, why):
    assert why in refused(folder_with(tmp_path, **{name: content}), scan())


def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "MOST_PIXELS", 3)
    said = refused(folder_with(tmp_path, one_png=picture(GREY)), scan())
    assert "has 2 x 2 pixels, over 3" in said


def test_a_picture_that_is_cut_off_is_refused_when_it_is_read(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    folder = folder_with(tmp_path, one_png=picture(random)[:-600])
    with pytest.raises(module.BadInput, match="cut off"):
        read(folder, scan(64))


def test_files_in_a_zip_are_read_as_in_a_folder(tmp_path):
    folder = folder_with(tmp_path, one_png=picture(GREY), two_dcm=dicom(FRAME))
    plain = read(folder, scan())
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("one.png", "two.dcm"):
            archive.write(tmp_path / name, name)
            (tmp_path / name).unlink()
    files = {"folder": "all.zip"}
    np.testing.assert_array_equal(read(folder, scan(), images=files), plain)
    write(tmp_path, main_csv="id,file,y\np1,none.png,1\n")
    assert "is not a file inside the archive" in refused(folder, scan(), images=files)


def test_a_file_beyond_the_limit_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FILE_LIMIT_BYTES", 100)
    folder = folder_with(tmp_path, one_png=picture(GREY))
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.png", b"\0" * 1_000_000)
    assert "over 100 bytes" in refused(folder, scan(), images={"folder": "all.zip"})


def test_one_array_of_a_npz_holds_all_images_by_row(tmp_path):
    stack = np.stack([GREY, 255 - GREY, GREY.T])
    np.savez(tmp_path / "all.npz", images=stack, other=np.zeros(3))
    write(tmp_path, main_csv="id,file,y\na,1,0\nb,0,1\n")
    files = {"folder": "all.npz", "array": "images"}
    got = read(tmp_path, scan(), images=files)
    np.testing.assert_allclose(got[0, 0], [[1, -1], [0.6, -0.6]], atol=1e-6)
    np.testing.assert_allclose(got[1, 0], [[-1, 1], [-0.6, 0.6]], atol=1e-6)
    for row, why in (("3", "beyond the array"), ("-1", "not a row number"), ("1.0", "not a row")):
        write(tmp_path, main_csv=f"id,file,y\na,{row},0\n")
        assert why in refused(tmp_path, scan(), images=files)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"images": GREY}, "is no stack of images"),
        ({"other": np.zeros((2, 2, 2))}, "is not a file inside the archive"),
        ({"images": np.array([[[{}]]], dtype=object)}, "type object"),
    ],
)
def test_a_npz_without_such_a_stack_is_refused(tmp_path, arrays, why):
    np.savez(tmp_path / "all.npz", **arrays)
    write(tmp_path, main_csv="id,file,y\na,0,0\n")
    files = {"folder": "all.npz", "array": "images"}
    assert why in refused(tmp_path, scan(), images=files)


def test_a_npz_whose_packing_is_broken_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "all.npz", images=np.arange(4000, dtype=np.uint8))
    content = bytearray((tmp_path / "all.npz").read_bytes())
    content[60:200] = b"\xff" * 140
    (tmp_path / "all.npz").write_bytes(content)
    write(tmp_path, main_csv="id,file,y\na,0,0\n")
    assert "cannot be" in refused(tmp_path, scan(), images={"folder": "all.npz", "array": "images"})


def test_an_archive_that_is_none_is_refused(tmp_path):
    (tmp_path / "all.zip").write_bytes(b"no zip")
    write(tmp_path, main_csv="id,file,y\na,one.png,0\n")
    assert "all.zip: not a zip archive" in refused(tmp_path, scan(), images={"folder": "all.zip"})
