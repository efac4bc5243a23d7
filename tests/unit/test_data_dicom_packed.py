"""Packed DICOM: every syntax against plain pixels, and frames that their header does not fit."""

import io
import struct
import zipfile
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from tests.support.dicom_files import content, ct_slice
from tests.support.enhanced_dicom import enhanced
from tests.unit.test_data_dicom_folder import LIDC, at

from wardround.errors import BadInput
from wardround_client.data.dicom import open_dicom

LOSSLESS = (RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)


def pixels(file, number=None):
    """What is read of a file, in Hounsfield units."""
    data = file if isinstance(file, bytes) else content(file)
    return open_dicom(io.BytesIO(data), len(data)).pixels(io.BytesIO(data), number)[0]


def refused(file):
    with pytest.raises(BadInput) as caught:
        pixels(file)
    return str(caught.value)


def packed(plain, syntax, tmp_path=None):
    """A plain file in another syntax; JPEG Lossless is written by GDCM, others by pydicom."""
    file = pydicom.dcmread(io.BytesIO(plain))
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return by_gdcm(plain, syntax, tmp_path)
    file.compress(syntax, generate_instance_uid=False)
    return content(file)


def by_gdcm(plain, syntax, tmp_path):
    (tmp_path / "plain").write_bytes(plain)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(tmp_path / "plain"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    kind = gdcm.TransferSyntax.GetTSType(str(syntax))
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(tmp_path / "packed"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return (tmp_path / "packed").read_bytes()


def smooth(kind=np.int16, low=-1000, high=2000):
    waves = np.sin(np.arange(48) / 7)[:, None] * np.cos(np.arange(40) / 5)
    noise = np.random.default_rng(9).normal(0, 0.01, waves.shape)
    return ((waves + noise + 1.1) / 2.2 * (high - low) + low).clip(low, high).astype(kind)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(
    ("stored", "bits"),
    [
        (smooth(), 16),
        (smooth(np.uint16, 0, 4095), 12),
        (smooth(np.uint16, 0, 65_535), 16),
        (smooth(np.uint8, 0, 255), 8),
    ],
    ids=["signed", "12 bits", "16 bits", "8 bits"],
)
def test_what_is_packed_without_loss_comes_out_as_it_was(tmp_path, syntax, stored, bits):
    plain = content(ct_slice(stored, BitsStored=bits, HighBit=bits - 1))
    np.testing.assert_array_equal(pixels(plain), stored.astype(np.float32) - 1024)
    file = packed(plain, syntax, tmp_path)
    assert pydicom.dcmread(io.BytesIO(file)).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(pixels(file), pixels(plain))


def test_real_slices_of_two_makers_come_out_as_they_were(tmp_path):
    if not LIDC.exists():
        pytest.skip("skipped: ../shared/data not present")
    with zipfile.ZipFile(LIDC / "dicom.zip") as archive:
        names = archive.namelist()
        for name in (names[0], names[-1]):
            plain = archive.read(name)
            for syntax in LOSSLESS:
                file = packed(plain, syntax, tmp_path)
                assert len(file) < 0.8 * len(plain)
                np.testing.assert_array_equal(pixels(file), pixels(plain))


def test_what_is_packed_with_loss_is_near_and_said_to_be_lossy():
    stored = smooth()
    file = ct_slice(stored)
    file.compress(JPEGLSNearLossless, jls_error=3)
    assert np.abs(pixels(file) + 1024 - stored).max() <= 3
    assert open_lossy(file)
    file = ct_slice(stored)
    file.compress(JPEG2000, j2k_cr=[8])
    assert 0 < np.abs(pixels(file) + 1024 - stored).mean() < 20
    assert open_lossy(file)
    file.LossyImageCompression = "00"  # this syntax can be without loss
    assert not open_lossy(file)
    assert not open_lossy(ct_slice(stored))
    assert open_lossy(ct_slice(stored, LossyImageCompression="01"))  # and unpacked since


def open_lossy(file):
    data = content(file)
    return open_dicom(io.BytesIO(data), len(data)).is_lossy


def baseline(stored, **elements):
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "JPEG", quality=95)
    file = ct_slice(stored, PixelData=encapsulate([buffer.getvalue()]), **elements)
    file["PixelData"].is_undefined_length = True
    return file, np.asarray(Image.open(buffer))


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_a_plain_jpeg_of_8_bits_is_read_as_it_decodes(syntax):
    file, due = baseline(smooth(np.uint8, 0, 255), syntax=syntax)
    np.testing.assert_array_equal(pixels(file) + 1024, due)


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_files_of_other_writers_are_read_as_two_decoders_read_them(name):
    path = get_testdata_file(name)
    file = pydicom.dcmread(path)
    options = {"index": 0, "decoding_plugin": "gdcm"}
    due, _ = get_decoder(file.file_meta.TransferSyntaxUID).as_array(file, **options)
    scale = float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))
    due = (due * scale[0] + scale[1]).astype(np.float32)
    assert np.abs(pixels(Path(path).read_bytes()) - due).max() <= (1 if "J2KI" in name else 0)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"]
)
def test_files_of_other_writers_are_what_their_plain_twin_is(name):
    plain, other = (Path(get_testdata_file(f"{n}.dcm")) for n in ("MR_small", name))
    np.testing.assert_array_equal(pixels(other.read_bytes()), pixels(plain.read_bytes()))
    for twin in ("MR_small_implicit", "MR_small_bigendian", "MR_small_padded"):
        same = Path(get_testdata_file(f"{twin}.dcm")).read_bytes()
        np.testing.assert_array_equal(pixels(same), pixels(plain.read_bytes()))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("JPEG-lossy.dcm", "is packed as JPEG Extended of 12 bits, which nothing here unpacks"),
        ("SC_rgb_jpeg_gdcm.dcm", "has colours"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "has packed pixels of 1024 x 3722"),
        ("image_dfl.dcm", "packed as a whole"),
    ],
)
def test_files_of_other_writers_that_are_not_read_are_refused_by_name(name, why):
    assert why in refused(Path(get_testdata_file(name)).read_bytes())


def test_a_syntax_without_a_decoder_is_refused_by_its_name():
    assert "packed as MPEG2 Main Profile" in refused(with_frame(b"x", MPEG2MPML))
    assert "packed as a way that has no name" in refused(with_frame(b"x", "1.2.3.4"))
    decoder = get_decoder(JPEGLSLossless)
    data = packed(content(ct_slice(smooth())), JPEGLSLossless)
    decoder.remove_plugin("pyjpegls")
    try:
        said = refused(data)
    finally:
        path = ("pydicom.pixels.decoders.pyjpegls", "_decode_frame")
        decoder.add_plugin("pyjpegls", path)
    assert said == (
        "has pixels packed as JPEG-LS Lossless: install pyjpegls, which "
        '"wardround[client,dicom]" brings'
    )
    assert pixels(data).shape == (48, 40)


def with_frame(frame, syntax, stored=None, **elements):
    """A file whose one packed frame is this, whatever its header says."""
    stored = smooth() if stored is None else stored
    own = pydicom.uid.UID(syntax)
    file = ct_slice(stored, syntax=own, PixelData=encapsulate([frame]), **elements)
    file["PixelData"].is_undefined_length = True
    if own.is_private or not own.is_transfer_syntax:
        file.file_meta.TransferSyntaxUID = JPEG2000
        return content(file).replace(b"1.2.840.10008.1.2.4.91", b"1.2.3.4" + b"\0" * 15)
    return content(file)


def frame_of(syntax, tmp_path):
    file = pydicom.dcmread(io.BytesIO(packed(content(ct_slice(smooth())), syntax, tmp_path)))
    return next(generate_frames(file.PixelData, number_of_frames=1))


def put(frame, mark, skip, form, *values):
    """The frame with other numbers, so many bytes behind a marker."""
    place = frame.index(mark) + len(mark) + skip
    return frame[:place] + struct.pack(form, *values) + frame[place + struct.calcsize(form) :]


@pytest.mark.parametrize(
    ("syntax", "mark"),
    [(JPEGLosslessSV1, b"\xff\xc3"), (JPEGLSLossless, b"\xff\xf7")],
    ids=["lossless", "ls"],
)
def test_a_jpeg_that_says_another_thing_than_the_header_is_not_decoded(tmp_path, syntax, mark):
    frame = frame_of(syntax, tmp_path)
    assert pixels(with_frame(frame, syntax)).shape == (48, 40)
    for skip, form, value, why in (
        (3, ">H", 60_000, "60000 x 40 and 16 bits, its header says 48 x 40 and 16"),
        (5, ">H", 65_535, "48 x 65535"),
        (3, ">H", 0, "0 x 40"),  # the height would come later, in a DNL
        (2, ">B", 8, "48 x 40 and 8 bits"),
        (2, ">B", 200, "not what its syntax says"),
        (7, ">B", 3, "in colours"),
        (-1, ">B", 0xC2, "not what its syntax says"),
        (-1, ">B", 0xDE, "not what its syntax says"),
    ):
        assert why in refused(with_frame(put(frame, mark, skip, form, value), syntax))
    twice = frame[:2] + frame[frame.index(mark) :][:13] + frame[2:]
    for other in (twice, frame[:10], b"\0" * 64, b"\xff\xd8" + b"\xff" * 64):
        assert "not what its syntax says" in refused(with_frame(other, syntax))
    assert "not what its syntax says" in refused(with_frame(frame, JPEGBaseline8Bit))


def test_a_jpeg_2000_that_says_another_thing_than_the_header_is_not_decoded(tmp_path):
    frame, mark = frame_of(JPEG2000Lossless, tmp_path), b"\xff\x4f\xff\x51"
    for skip, form, values, why in (
        (4, ">I", (1 << 31,), f"48 x {1 << 31} and 16 bits"),
        (8, ">I", (1 << 20,), f"{1 << 20} x 40"),
        (12, ">I", (8,), "not what its syntax says"),
        (20, ">II", (20, 48), "tiles that are not there"),
        (20, ">I", (0,), "not what its syntax says"),
        (36, ">H", (3,), "in colours"),
        (38, ">B", (37,), "38 bits, its header says"),
        (39, ">B", (2,), "not what its syntax says"),
    ):
        said = refused(with_frame(put(frame, mark, skip, form, *values), JPEG2000Lossless))
        assert why in said
    for cut in (len(frame) // 2, len(frame) - 3):
        assert "cut off" in refused(with_frame(frame[:cut], JPEG2000Lossless))
    tiny = put(put(frame, mark, 4, ">II", 4000, 4000), mark, 20, ">II", 1, 1)
    stored = np.zeros((4000, 4000), dtype=np.int16)
    assert "in over 65535 tiles" in refused(with_frame(tiny, JPEG2000Lossless, stored))


def rle(*segments):
    starts = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    return struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(segments))) + b"".join(
        segments
    )


def test_a_run_length_that_unpacks_to_another_size_is_not_unpacked():
    ones = np.ones((2, 64), dtype=np.int16)
    fits = b"\x81\x00", b"\x81\x01"
    assert pixels(with_frame(rle(*fits), RLELossless, ones)).tolist() == [[-1023] * 64] * 2
    number = "has packed pixels of another number than its header says"
    for segments in (
        (b"\x81\x00" * 4000, fits[1]),
        (b"\x81\x00" * 2, fits[1]),
        (b"\x82\x00\x81", fits[1]),
        (b"\x7f" + bytes(20), fits[1]),
        (b"\x80" * 100, fits[1]),
        (b"", fits[1]),
    ):
        assert number in refused(with_frame(rle(*segments), RLELossless, ones))
    other = "not what its syntax says"
    whole = rle(*fits)
    for frame in (
        rle(fits[0]),
        rle(*fits, fits[0]),
        whole[:40],
        struct.pack("<I", 0xFFFFFFFF) + whole[4:],
        whole[:4] + struct.pack("<I", 65) + whole[8:],
        whole[:8] + struct.pack("<I", 4000) + whole[12:],
    ):
        assert other in refused(with_frame(frame, RLELossless, ones))


def test_a_packed_frame_far_larger_than_what_it_becomes_is_refused():
    frame = b"\xff\xd8" + bytes(2 << 20)
    assert "beyond what it unpacks to" in refused(with_frame(frame, JPEGLSLossless))


def stack(count=3):
    return [at(z, stored=smooth()) for z in range(count)]


def pieces(file, syntax):
    """The packed frames of slices, one by one."""
    found = []
    for one in file:
        own = pydicom.dcmread(io.BytesIO(packed(content(one), syntax)))
        found.append(next(generate_frames(own.PixelData, number_of_frames=1)))
    return found


def framed(slices, data, syntax=JPEGLSLossless, **elements):
    file = enhanced(slices, **elements)
    file.file_meta.TransferSyntaxUID = syntax
    file.PixelData = data
    file["PixelData"].is_undefined_length = True
    return content(file)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_each_frame_of_many_is_found_however_it_is_cut(syntax):
    slices = stack()
    frames = pieces(slices, syntax)
    data, places, lengths = encapsulate_extended(frames)
    own = {"ExtendedOffsetTable": places, "ExtendedOffsetTableLengths": lengths}
    for file in (
        framed(slices, encapsulate(frames), syntax),
        framed(slices, encapsulate(frames, has_bot=False), syntax),
        framed(slices, encapsulate(frames, fragments_per_frame=3), syntax),
        framed(slices, data, syntax, **own),
    ):
        for number, one in enumerate(slices, start=1):
            np.testing.assert_array_equal(pixels(file, number), pixels(one))


def test_frames_that_cannot_be_told_apart_are_refused():
    slices = stack()
    frames = pieces(slices, JPEGLSLossless)
    whole = encapsulate(frames)
    first = struct.unpack_from("<3I", whole, 8)
    nowhere = "has 3 frames, and does not say where each of them begins"
    for table in ((first[1], 0, first[2]), (0, first[2], first[1]), (0, 0, first[2]), (0, 1, 2)):
        lying = whole[:8] + struct.pack("<3I", *table) + whole[20:]
        assert refused(framed(slices, lying)) == nowhere
    in_three = encapsulate(frames, fragments_per_frame=3, has_bot=False)
    assert refused(framed(slices, in_three)) == nowhere
    two = encapsulate(frames[:2])
    assert refused(framed(slices, two)) == "has 3 frames, and places of another number"
    assert refused(framed(slices, encapsulate(frames[:2], has_bot=False))) == nowhere
    assert refused(framed(slices, whole[:200])) == "has packed pixels that are cut off"
    assert "in 0 pieces" in refused(framed(slices, whole[:20]))
    huge = whole[:24] + b"\xf0\xff\xff\xff" + whole[28:]
    assert refused(framed(slices, huge)) == "has packed pixels that are cut off"


def test_frames_of_a_plain_file_in_big_endian_are_read():
    slices = stack()
    file = enhanced(slices)
    due = [pixels(one) for one in slices]
    file.PixelData = np.frombuffer(file.PixelData, "<i2").astype(">i2").tobytes()
    file.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    data = io.BytesIO()
    pydicom.dcmwrite(data, file, little_endian=False, implicit_vr=False, force_encoding=True)
    for number, own in enumerate(due, start=1):
        np.testing.assert_array_equal(pixels(data.getvalue(), number), own)
