"""Why the gateway says no: each refusal has an HTTP status; its type name is all that travels."""

from http import HTTPStatus
from typing import ClassVar

from wardround.errors import ProtocolViolation


class GatewayRefusal(ProtocolViolation):
    """A request that the gateway does not carry out."""

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST


class MalformedRequest(GatewayRefusal):
    """The bytes are not the message that this route takes."""


class NoSuchRoute(GatewayRefusal):
    """Nothing is here for this certificate."""

    status = HTTPStatus.NOT_FOUND


class UnknownHospital(GatewayRefusal):
    """The certificate is of this authority, but not the one this hospital is enrolled with."""

    status = HTTPStatus.FORBIDDEN


class NodeNotYours(GatewayRefusal):
    """The request names a node, message or object of another hospital, or of nobody."""

    status = HTTPStatus.FORBIDDEN


class NodeReplaced(GatewayRefusal):
    """Another process with this hospital's certificate has registered since."""

    status = HTTPStatus.CONFLICT


class AnswerNotWanted(GatewayRefusal):
    """The coordinator has stopped waiting for this answer."""

    status = HTTPStatus.GONE


class RequestTooLarge(GatewayRefusal):
    """The request, or all the objects of one answer together, are over the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class WrongOffset(GatewayRefusal):
    """An upload goes on at another byte than the next that is due: ask which that is."""

    status = HTTPStatus.CONFLICT


class UploadElsewhere(GatewayRefusal):
    """A later request has taken over this upload."""

    status = HTTPStatus.CONFLICT


class VectorMissing(GatewayRefusal):
    """An answer came before the vector that it refers to."""

    status = HTTPStatus.CONFLICT


class BadDigest(GatewayRefusal):
    """A vector has arrived whole and is not the one that was announced: all of it is due again."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class SpoolFull(GatewayRefusal):
    """The coordinator's disk does not take the upload now."""

    status = HTTPStatus.INSUFFICIENT_STORAGE


class Stopping(GatewayRefusal):
    """The coordinator is shutting down: come back later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class NotInvited(GatewayRefusal):
    """The ticket is unknown, used, withdrawn or expired, or is another hospital's."""

    status = HTTPStatus.FORBIDDEN


class AlreadyEnrolled(GatewayRefusal):
    """A hospital of this name has enrolled before."""

    status = HTTPStatus.CONFLICT


class BadRenewal(GatewayRefusal):
    """The request for a new certificate is not this hospital's own, or replaces another one."""

    status = HTTPStatus.FORBIDDEN


class BadEnrolment(GatewayRefusal):
    """The signing request or the proof of the identity key is wrong."""
