"""Add hospitals' sign-offs to a bundle: nothing else in it changes, and no key is needed."""

from collections.abc import Sequence

from wardround.audit.bundle import Bundle, bundle_of
from wardround.audit.container import pack, unpack
from wardround.audit.sign_off import (
    SignedBytes,
    SignOff,
    member_of,
    read_sign_off,
    verify_sign_off,
)
from wardround.errors import BadInput, VerificationFailed


def attach(content: bytes, signature_files: Sequence[bytes]) -> tuple[bytes, list[SignOff]]:
    """The bundle with these sign-offs in it, and what they say.

    Raises BadInput for a malformed bundle or sign-off, and for a hospital that has decided already;
    BadSignature or VerificationFailed for one that is not a hospital's word about this very report.
    """
    members = unpack(content)
    bundle = bundle_of(members)
    added = []
    for signed in signature_files:
        decided = _checked(bundle, signed)
        name = member_of(decided.hospital)
        if name not in members:
            members[name] = signed
        elif read_sign_off(members[name]) != decided:
            raise BadInput(f"sign-off of {decided.hospital}: this bundle holds a decision of it")
        added.append(decided)
    return pack(members), added


def _checked(bundle: Bundle, signed: bytes) -> SignOff:
    hospital = read_sign_off(signed).hospital
    key = bundle.parts.hospital_keys.get(hospital)
    if key is None:
        raise VerificationFailed(f"sign-off of {hospital}: no hospital of this study")
    about = SignedBytes.of(bundle.report, bundle.manifest)
    return verify_sign_off(signed, key=key, hospital=hospital, about=about)
