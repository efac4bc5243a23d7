"""Put a time stamp into a bundle: nothing else in it changes, and no key is needed."""

from wardround.audit.bundle import Bundle, bundle_of
from wardround.audit.check_intact import read_logs
from wardround.audit.check_timestamps import written_after
from wardround.audit.container import pack, unpack
from wardround.audit.redact import is_redacted
from wardround.audit.timestamp import (
    MOST_STAMPS,
    Authorities,
    TimeStamp,
    member_of,
    verify_time_stamp,
)
from wardround.audit.timestamp_request import TIMEOUT_S, request_time_stamp
from wardround.errors import BadInput, VerificationFailed


def stamp_bundle(
    content: bytes, url: str, *, authorities: Authorities | None, timeout_s: float = TIMEOUT_S
) -> tuple[bytes, TimeStamp]:
    """Ask the authority at `url` for a stamp of the coordinator's head, and attach it.

    Raises as `request_time_stamp` and `attach_time_stamp` do; then there is no new bundle.
    """
    head = _whole(content)[1].parts.coordinator.checkpoint.encode()
    token = request_time_stamp(url, head, authorities=authorities, timeout_s=timeout_s)
    return attach_time_stamp(content, token, authorities=authorities)


def attach_time_stamp(
    content: bytes, token: bytes, *, authorities: Authorities | None = None
) -> tuple[bytes, TimeStamp]:
    """The bundle with this token in it, and what it says.

    Raises BadInput for a malformed or redacted bundle or token, VerificationFailed for a token of
    another head or from before the log's own times, BadSignature for one of nobody who is trusted.
    """
    members, bundle = _whole(content)
    stamp = verify_time_stamp(token, bundle.parts.coordinator.checkpoint.encode(), authorities)
    name = member_of(token)
    log = read_logs(bundle)[0]
    times = () if log is None else ((record.seq, record.time) for record in log.records)
    for fault in written_after(((name, stamp),), times):
        raise VerificationFailed(str(fault))
    if len({*bundle.time_stamps, name}) > MOST_STAMPS:
        raise BadInput(f"bundle: {MOST_STAMPS} time stamps are in it, and more are not allowed")
    return pack({**members, name: token}), stamp


def _whole(content: bytes) -> tuple[dict[str, bytes], Bundle]:
    members = unpack(content)
    if is_redacted(members):
        raise BadInput("bundle: it is redacted; stamp the whole one, a copy keeps its time stamps")
    return members, bundle_of(members)
