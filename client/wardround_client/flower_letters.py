# ruff: noqa: E402 - Flower reads its environment when it is imported, so it is set before that
"""How Flower's messages come out of a letter and go into an answer: the other half of `fleet`."""

import hashlib
from collections.abc import Sequence

from wardround.flower_quiet import quiet_flower

quiet_flower()

from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesResponse, PushMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from google.protobuf.message import DecodeError

from wardround.errors import BadInput, ProtocolViolation
from wardround.framing import frame, unframe
from wardround.held import detach
from wardround.vectors import bytes_of, in_memory
from wardround.wire import WireLimits, check_objects
from wardround_client.outbox import Reply


def opened(framed: bytes, *, limits: WireLimits) -> tuple[str, list[bytes]]:
    """The letter's id and its objects. Raises ProtocolViolation when it is no letter's frame."""
    try:
        told, *objects = unframe(framed, most_parts=1 + limits.objects)
        (metadata,) = (m.metadata for m in PullMessagesResponse.FromString(told).messages_list)
    except (BadInput, ValueError, DecodeError) as error:
        raise ProtocolViolation("a letter's frame cannot be read") from error
    return metadata.message_id, objects


def read_letter(letter: str, objects: Sequence[bytes], *, limits: WireLimits) -> Message:
    """The message of a letter, its large vector still to be fetched.

    Raises ProtocolViolation for objects that are over the limits or cannot be read.
    """
    contents = {hashlib.sha256(content).hexdigest(): content for content in objects}
    try:
        check_objects(contents, limits=limits)
        message = inflate_object_from_contents(letter, contents)
    except Exception as error:  # Flower's inflating raises whatever the bytes provoke
        raise ProtocolViolation(f"a message cannot be read: {type(error).__name__}") from error
    if not isinstance(message, Message):
        raise ProtocolViolation(f"a Message was due, a {type(message).__name__} came")
    message.metadata.__dict__["_message_id"] = letter
    return message


def enveloped(message: Message) -> Reply:
    """An answer as it travels; its large vector, or else body, stays where it lies, beside it."""
    whole_content = message.content
    content, pieces = detach(whole_content, most=1)
    message.content = content
    try:
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            request = PushMessagesRequest(
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[get_object_tree(message)],
                clientapp_runtime_list=[0.0],
            )
            objects = [part.deflate() for part in get_all_nested_objects(message).values()]
    finally:
        message.content = whole_content
    letter, envelope = message.metadata.reply_to_message_id, request.SerializeToString()
    for held in pieces:
        whole = in_memory(held.vector)
        if whole is not None:
            return Reply(letter, envelope, objects, bytes_of(whole), held.vector_digest)
    return Reply(letter, envelope, objects)


def addressed(reply: Reply, node: Node) -> bytes:
    """The frame of an answer, from the node that the hospital has now."""
    request = PushMessagesRequest.FromString(reply.envelope)
    request.node.CopyFrom(node)
    return frame([request.SerializeToString(), *reply.objects])
