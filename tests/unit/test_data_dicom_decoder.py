"""A frame that breaks its decoder ends the decoder's process, and no other."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless
from tests.support.dicom_files import content, ct_slice
from tests.unit.test_data_dicom_packed import packed, pixels, refused, smooth

from wardround.errors import BadInput
from wardround_client.data import dicom_decoder
from wardround_client.data.dicom_decoder import CANNOT, DECODER, MEMORY_LIMIT_BYTES

# What some minutes of mutated frames were cut down to: GDCM 3.2.6 ends the process that unpacks it.
BREAKS = bytes.fromhex("ffd8ffc3000b1000180014010111000fffda")
OPTIONS = {
    "syntax": str(JPEGLosslessSV1),
    "decoding_plugin": "gdcm",
    "rows": 24,
    "columns": 20,
    "bits_allocated": 16,
    "bits_stored": 16,
    "pixel_representation": 1,
    "photometric_interpretation": "MONOCHROME2",
    "samples_per_pixel": 1,
    "number_of_frames": 1,
    "pixel_keyword": "PixelData",
    "pixel_vr": "OW",
}


@pytest.fixture
def file(tmp_path):
    """A packed slice that was read once, so that there is a child."""
    made = packed(content(ct_slice(smooth())), JPEGLosslessSV1, tmp_path)
    pixels(made)
    return made


def child():
    assert DECODER._child is not None
    return DECODER._child


def test_a_frame_that_ends_its_decoder_is_refused_and_the_next_one_is_read(file):
    due, first = pixels(file), child()
    with pytest.raises(BadInput, match=CANNOT):
        DECODER.decoded(BREAKS, OPTIONS, size=24 * 20 * 2)
    assert first.poll() is not None
    np.testing.assert_array_equal(pixels(file), due)
    assert child().pid != first.pid


def test_a_frame_that_is_no_image_leaves_the_decoder_as_it_is(file):
    first = child()
    with pytest.raises(BadInput, match=CANNOT):
        DECODER.decoded(b"no image", OPTIONS, size=24 * 20 * 2)
    assert child() is first
    assert pixels(file).shape == (48, 40)
    assert child() is first


def test_a_decoder_that_takes_too_long_is_ended(file, monkeypatch):
    due, first = pixels(file), child()
    monkeypatch.setattr(dicom_decoder, "TIMEOUT_S", 0.2)
    os.kill(first.pid, signal.SIGSTOP)
    assert refused(file) == CANNOT
    assert first.poll() is not None
    monkeypatch.undo()
    np.testing.assert_array_equal(pixels(file), due)


def test_a_decoder_that_was_ended_from_outside_is_started_again(file):
    due, first = pixels(file), child()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    np.testing.assert_array_equal(pixels(file), due)


def test_the_decoder_has_bounded_memory_and_nothing_of_this_process(file):
    DECODER.close()
    shared = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(shared, True)
    pixels(file)
    own = Path("/proc") / str(child().pid)
    limits = (own / "limits").read_text()
    assert str(MEMORY_LIMIT_BYTES) in limits
    assert __file__ not in [str(link.readlink()) for link in (own / "fd").iterdir()]
    os.close(shared)


def test_one_process_reads_all_syntaxes_and_closing_ends_it(file):
    first = child()
    pixels(packed(content(ct_slice(smooth())), JPEGLSLossless))
    assert child() is first
    DECODER.close()
    assert first.poll() is not None
    assert DECODER._child is None
