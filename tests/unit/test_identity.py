"""Identity keys: a signature is good for one purpose, and a key never shows or gets lost."""

import hashlib
from contextlib import suppress

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from tests.support.identities import identity_of

from wardround.errors import BadInput, BadSignature
from wardround.identity import (
    Identity,
    ed25519_of,
    fingerprint,
    ml_dsa_65_of,
    verify,
    verify_lasting,
    write_secret,
)

# RFC 8032, section 7.1, TEST 1.
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def identity():
    return identity_of(SECRET)


def test_the_fingerprint_is_sha256_of_both_raw_public_keys():
    public = identity().public_key
    assert ed25519_of(public).hex() == PUBLIC
    assert len(ml_dsa_65_of(public)) == 1952
    assert identity().fingerprint == hashlib.sha256(public).hexdigest()


def test_what_is_signed_is_the_frame_of_protocol_section_2():
    frame = b"wardround/1 study\x00manifest"
    assert identity().sign(b"study", b"manifest") == identity().key.sign(frame)


def test_a_signature_is_good_for_its_key_purpose_and_message_only():
    signer = identity()
    signature = signer.sign(b"study", b"manifest")
    verify(signer.public_key, b"study", b"manifest", signature)
    for key, purpose, message, given in (
        (Identity.generate().public_key, b"study", b"manifest", signature),
        (signer.public_key, b"run-key", b"manifest", signature),
        (signer.public_key, b"study", b"manifesto", signature),
        (signer.public_key, b"study", b"manifest", bytes(64)),
        (signer.public_key, b"study", b"manifest", signature[:63]),
        (b"short", b"study", b"manifest", signature),
    ):
        with pytest.raises(BadSignature):
            verify(key, purpose, message, given)


PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, PRIME - 2, PRIME) % PRIME


def added(one, other):
    """The sum of two points of Edwards25519 (RFC 8032, 5.1.4, in affine form)."""
    (x1, y1), (x2, y2) = one, other
    cross = CURVE_D * x1 * x2 * y1 * y2
    x = (x1 * y2 + y1 * x2) * pow(1 + cross, PRIME - 2, PRIME)
    y = (y1 * y2 + x1 * x2) * pow(1 - cross, PRIME - 2, PRIME)
    return x % PRIME, y % PRIME


def times(factor, point):
    total = (0, 1)
    for bit in f"{factor:b}":
        total = added(total, total)
        total = added(total, point) if bit == "1" else total
    return total


def point_with(y):
    """The point with this y, or None (RFC 8032, 5.1.3)."""
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, PRIME - 2, PRIME) % PRIME
    for factor in (1, pow(2, (PRIME - 1) // 4, PRIME)):
        x = pow(square, (PRIME + 3) // 8, PRIME) * factor % PRIME
        if x * x % PRIME == square:
            return x, y
    return None


def keys_of_small_order():
    """The eight points whose order divides 8, as RFC 8032 writes them, and other spellings."""
    found = set()
    for y in range(2, 8):
        point = point_with(y)
        small = (0, 1) if point is None else times(ORDER, point)
        for k in range(8):
            x, y_of_small = times(k, small)
            found.add(y_of_small + ((x & 1) << 255))
    found |= {y + sign for y in (PRIME, PRIME + 1, 1, PRIME - 1) for sign in (0, 1 << 255)}
    return sorted(key.to_bytes(32, "little") for key in found)


def test_a_key_of_small_order_has_no_valid_signature_though_everybody_could_make_one():
    small = keys_of_small_order()
    assert len(small) == 8 + 6
    nobodys = (1).to_bytes(32, "little") + bytes(32)  # R is the neutral point, S is zero
    believed = 0
    for key in small:
        public = key + ml_dsa_65_of(identity().public_key)
        for number in range(24):
            message = b"survivors, set %d" % number
            with suppress(InvalidSignature, ValueError):
                library = Ed25519PublicKey.from_public_bytes(key)
                library.verify(nobodys, b"wardround/1 survivors\0" + message)
                believed += 1
            with pytest.raises(BadSignature):
                verify(public, b"survivors", message, nobodys)
    assert believed > 24  # so the test can fail: the library alone believes them


def test_a_lasting_signature_needs_both_of_its_parts():
    signer, other = identity(), identity_of(bytes(32))
    signature = signer.sign_lasting(b"study", b"manifest")
    again = signer.sign_lasting(b"study", b"manifest")
    verify_lasting(signer.public_key, b"study", b"manifest", signature)
    verify_lasting(signer.public_key, b"study", b"manifest", signature[:64] + again[64:])
    verify(signer.public_key, b"study", b"manifest", signature[:64])
    foreign = other.sign_lasting(b"study", b"manifest")
    mixed = ed25519_of(signer.public_key) + ml_dsa_65_of(other.public_key)
    for key, purpose, message, given in (
        (signer.public_key, b"study", b"manifest", signature[:64]),
        (signer.public_key, b"study", b"manifest", signature[64:]),
        (signer.public_key, b"study", b"manifest", signature[:64] + foreign[64:]),
        (signer.public_key, b"study", b"manifest", foreign[:64] + signature[64:]),
        (signer.public_key, b"study", b"manifest", signature + b"x"),
        (signer.public_key, b"bundle", b"manifest", signature),
        (signer.public_key, b"study", b"manifesto", signature),
        (mixed, b"study", b"manifest", signature),
        (ed25519_of(signer.public_key), b"study", b"manifest", signature),
    ):
        with pytest.raises(BadSignature):
            verify_lasting(key, purpose, message, given)


def test_a_key_with_half_of_it_exchanged_has_another_fingerprint():
    """A roster pins both keys, so who breaks Ed25519 cannot bring an ML-DSA-65 key along."""
    own, other = identity().public_key, identity_of(bytes(32)).public_key
    mixed = {fingerprint(own), fingerprint(ed25519_of(own) + ml_dsa_65_of(other))}
    mixed.add(fingerprint(ed25519_of(other) + ml_dsa_65_of(own)))
    assert len(mixed) == 3


def test_a_directory_from_before_the_second_key_is_told_what_to_do(tmp_path):
    path = tmp_path / "identity.pem"
    path.write_bytes(_pem(Ed25519PrivateKey.generate(), serialization.NoEncryption()))
    with pytest.raises(BadInput, match=r"no ML-DSA-65 key.*new join ticket"):
        Identity.load(path)


def test_keys_in_the_wrong_order_are_no_identity(tmp_path):
    path, none = tmp_path / "identity.pem", serialization.NoEncryption()
    first, second = (_pem(key, none) for key in (identity().key, identity().lasting_key))
    for content in (second + first, first + first, first + second + second, second):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="not an Ed25519 key and an ML-DSA-65 key"):
            Identity.load(path)


def test_a_purpose_and_a_message_cannot_be_cut_differently():
    signature = identity().sign(b"a", b"b\x00c")
    with pytest.raises(BadSignature):
        verify(identity().public_key, b"a\x00b", b"c", signature[:-1] + b"\x00")


def test_a_key_file_is_for_its_owner_only_and_reads_back(tmp_path):
    path = tmp_path / "identity.pem"
    identity().save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.load(path).public_key == identity().public_key


def test_a_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "identity.pem"
    identity().save(path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"identity\.pem exists already"):
        Identity.generate().save(path)
    with pytest.raises(BadInput):
        write_secret(path, b"")
    assert path.read_bytes() == before


def test_a_private_key_shows_in_no_repr():
    text = f"{identity()!r} {identity()}"
    assert text == "Identity() Identity()"


def _pem(key, protection):
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, protection)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        _pem(ec.generate_private_key(ec.SECP256R1()), serialization.NoEncryption()),
        _pem(Ed25519PrivateKey.generate(), serialization.BestAvailableEncryption(b"secret")),
    ],
    ids=["empty", "junk", "another kind", "with a password"],
)
def test_what_is_no_identity_key_is_refused_without_quoting_it(tmp_path, content):
    path = tmp_path / "identity.pem"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"^identity key identity\.pem: [A-Za-z0-9 -]+$"):
        Identity.load(path)


def test_a_missing_key_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"identity\.pem: no such file or directory"):
        Identity.load(tmp_path / "identity.pem")


def test_a_fingerprint_is_made_of_both_keys_only():
    for size in (31, 32, 1952, 1983, 1985):
        with pytest.raises(BadInput, match=f"1984 bytes were due, {size} came"):
            fingerprint(bytes(size))
