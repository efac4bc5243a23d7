# ruff: noqa: E402 - Flower reads its environment when it is imported, so it is set before that
"""How Flower's messages are made and read, strictly: the second half of `flower_adapter`."""

import hashlib
from collections.abc import Mapping
from typing import TypeVar

from wardround.flower_quiet import quiet_flower

quiet_flower()

from flwr.app import Message
from flwr.app.error import Error
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

from wardround.errors import BadInput, ProtocolViolation
from wardround.framing import unframe
from wardround.held import attach, references_of
from wardround.wire import WireLimits, check_objects
from wardround_server.letters import Letter
from wardround_server.refusals import MalformedRequest, RequestTooLarge
from wardround_server.spool import Spool

RequestT = TypeVar("RequestT", bound=Protobuf)
DEFAULT_LIFE_S = 43200.0


def read_answer(
    run_id: int, letter: Letter, contents: Mapping[str, bytes], *, limits: WireLimits
) -> Message:
    """The answer to a letter, with its vector; a message with an error when it is not as due.

    The reason of that error is a type name. The letter's spool is closed in any case.
    """
    try:
        check_objects(contents, limits=limits)
        message = inflate_object_from_contents(letter.answer, dict(contents))
        checked = _checked_answer(message, run_id, letter)
        _attach_upload(checked, letter.spool, limits=limits)
    except Exception as error:  # noqa: BLE001 - inflating raises whatever the bytes provoke
        return _error_answer(run_id, letter, type(error).__name__)
    finally:
        if letter.spool is not None:
            letter.spool.close()
    return checked


def read_answer_frame(
    framed: bytes, *, limits: WireLimits
) -> tuple[PushMessagesRequest, dict[str, bytes]]:
    """What came of an answer: Flower's envelope, and its objects by name. Raises GatewayRefusal."""
    try:
        told, *parts = unframe(framed, most_parts=1 + limits.objects)
    except (BadInput, ValueError) as error:
        raise MalformedRequest("not the frame of an answer") from error
    request = parse(PushMessagesRequest, told)
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        raise MalformedRequest("one message and one object tree were due")
    metadata, tree = request.messages_list[0].metadata, request.message_object_trees[0]
    if metadata.message_id != tree.object_id:
        raise MalformedRequest("the object tree is not the message's")
    if sum(len(part) for part in parts) > limits.message_bytes:
        raise RequestTooLarge("the objects of this answer are larger than the limit together")
    contents = {hashlib.sha256(part).hexdigest(): part for part in parts}
    if {node.object_id for node in iterate_object_tree(tree)} != set(contents):
        raise MalformedRequest("the objects are not those of the answer's tree")
    return request, contents


def parse(kind: type[RequestT], body: bytes) -> RequestT:
    """A protobuf of this kind. Raises MalformedRequest."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise MalformedRequest(f"not a {kind.__name__}") from error


def metadata_of(run_id: int, kind: str, *, source: int, to: int, answers: str = "") -> Metadata:
    """A message's metadata, as of now; Flower's own is for one run in a process."""
    return Metadata(
        run_id=run_id,
        message_id="",
        src_node_id=source,
        dst_node_id=to,
        reply_to_message_id=answers,
        group_id="",
        created_at=now().timestamp(),
        ttl=DEFAULT_LIFE_S,
        message_type=kind,
    )


def _error_answer(run_id: int, letter: Letter, reason: str) -> Message:
    source, answers = letter.node_id, letter.letter
    metadata = metadata_of(run_id, "query", source=source, to=SUPERLINK_NODE_ID, answers=answers)
    error = Error(code=ErrorCode.MESSAGE_UNAVAILABLE, reason=reason)
    return make_message(metadata=metadata, error=error)


def _checked_answer(message: object, run_id: int, letter: Letter) -> Message:
    """The envelope was checked on arrival; this is the letter inside it."""
    if not isinstance(message, Message):
        raise ProtocolViolation(f"a Message was due, a {type(message).__name__} came")
    claimed = message.metadata
    due = (run_id, letter.node_id, letter.letter)
    if (claimed.run_id, claimed.src_node_id, claimed.reply_to_message_id) != due:
        raise ProtocolViolation("the answer is for another letter than its envelope")
    claimed.__dict__["_message_id"] = letter.answer
    return message


def _attach_upload(message: Message, spool: Spool | None, *, limits: WireLimits) -> None:
    """Give an answer the vector, or the body, it refers to. Raises ProtocolViolation, BadInput."""
    references = references_of(message.content, limits=limits)
    if len(references) > 1:
        raise ProtocolViolation("the answer refers to two large pieces, one was due")
    for due in references:
        if spool is None or (spool.nbytes, spool.digest, spool.complete) != (
            due.nbytes,
            due.digest,
            True,
        ):
            raise ProtocolViolation("the answer refers to another vector than the one that came")
        attach(message.content, due, spool.take(due.dtype))
