"""Entries of rounds that are summed in groups (a study's [robust])."""

from typing import Annotated

from pydantic import Field

from wardround.audit.body_fields import Body, Digest, Word

Transcripts = Annotated[tuple[Digest, ...], Field(max_length=100, strict=False)]


class GroupClosed(Body):
    """The sum of one group of a training attempt was opened."""

    TYPE = "group-closed"
    transcript: Digest
    sum_digest: Digest


class RoundCombined(Body):
    """The groups' means were combined by the study's rule, and the model moved.

    `transcripts` are those of the sums that were opened and `void` the others of the attempt, both
    sorted; `flagged` are those of the first that lie far off from the rest, or are longer than
    the engine allows.
    """

    TYPE = "round-combined"
    transcripts: Transcripts
    rule: Word
    void: Transcripts
    flagged: Transcripts
    model_before: Digest
    model_after: Digest
