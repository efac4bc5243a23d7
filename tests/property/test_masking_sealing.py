"""Sealed shares: only the key and transcript they were sealed with open them, unchanged."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from wardround.errors import ProtocolViolation
from wardround.masking.sealing import TAG_BYTES, open_sealed, seal

KEYS = st.binary(min_size=32, max_size=32)
BUNDLES = st.binary(max_size=400)


@given(bundle=BUNDLES, key=KEYS, transcript=KEYS)
def test_what_was_sealed_opens(bundle: bytes, key: bytes, transcript: bytes) -> None:
    sealed = seal(bundle, key=key, transcript=transcript)
    assert len(sealed) == len(bundle) + TAG_BYTES
    assert open_sealed(sealed, key=key, transcript=transcript) == bundle


@given(bundle=BUNDLES, key=KEYS, transcript=KEYS)
def test_sealing_is_aes_256_gcm_with_a_nonce_of_zeros(
    bundle: bytes, key: bytes, transcript: bytes
) -> None:
    context = Cipher(algorithms.AES256(key), modes.GCM(bytes(12))).encryptor()
    context.authenticate_additional_data(transcript)
    due = context.update(bundle) + context.finalize() + context.tag
    assert seal(bundle, key=key, transcript=transcript) == due


@given(bundle=BUNDLES, key=KEYS, place=st.integers(0), bit=st.integers(0, 7))
def test_one_changed_bit_anywhere_is_refused(
    bundle: bytes, key: bytes, place: int, bit: int
) -> None:
    transcript = bytes(range(32))

    def changed(value: bytes) -> bytes:
        copy = bytearray(value)
        copy[place % len(copy)] ^= 1 << bit
        return bytes(copy)

    sealed = seal(bundle, key=key, transcript=transcript)
    for wrong, other_key, other_transcript in (
        (changed(sealed), key, transcript),
        (sealed, changed(key), transcript),
        (sealed, key, changed(transcript)),
    ):
        with pytest.raises(ProtocolViolation, match="do not open with the key and transcript due"):
            open_sealed(wrong, key=other_key, transcript=other_transcript)


@given(sealed=st.binary(max_size=TAG_BYTES))
def test_what_is_too_short_for_a_seal_is_refused(sealed: bytes) -> None:
    with pytest.raises(ProtocolViolation, match=f"{len(sealed)} bytes do not open"):
        open_sealed(sealed, key=bytes(32), transcript=bytes(32))
