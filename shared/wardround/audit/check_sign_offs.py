"""Sign-offs: whose decision each is, and that it is about this very report."""

from wardround.audit.bundle import Bundle
from wardround.audit.sign_off import SignedBytes, SignOff, member_of, verify_sign_off
from wardround.audit.verdicts import Failure
from wardround.errors import BadInput, BadSignature, VerificationFailed


def check_sign_offs(bundle: Bundle) -> tuple[tuple[SignOff, ...], list[Failure]]:
    """The decisions that hold, by hospital; a failure for each that is not its hospital's word."""
    decisions, failures = [], []
    for name in sorted(bundle.sign_offs):
        try:
            decisions.append(_decided(bundle, name))
        except BadSignature as error:
            failures.append(Failure("sign-off-signature", member_of(name), None, str(error)))
        except VerificationFailed as error:
            failures.append(Failure("sign-off-foreign", member_of(name), None, str(error)))
        except BadInput as error:
            failures.append(Failure("sign-off-malformed", member_of(name), None, str(error)))
    return tuple(decisions), failures


def _decided(bundle: Bundle, name: str) -> SignOff:
    key = bundle.parts.hospital_keys.get(name)
    if key is None:
        raise VerificationFailed(f"sign-off of {name}: no hospital of this study")
    about = SignedBytes.of(bundle.report, bundle.manifest)
    return verify_sign_off(bundle.sign_offs[name], key=key, hospital=name, about=about)
