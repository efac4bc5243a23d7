"""From the opened sums of a training attempt to the update that the model steps with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.masking.round_spec import RoundSpec
from wardround.robust.combined import OpenedGroup, combined_round
from wardround.robust.suspicion import GroupedRound
from wardround.study.manifest import Study
from wardround.study.robust import Robust
from wardround_server.rounds.collect import Collected
from wardround_server.rounds.record import RunRecord


@dataclass(frozen=True, slots=True)
class Mean:
    """The update, float32 [parameters], and what the entry that closes the round says of it.

    `loss` is there where hospitals are weighted, `groups` where they are summed in groups.
    """

    values: npt.NDArray[np.float32] = field(repr=False)
    loss: float | None
    kind: str
    body: Json
    groups: GroupedRound | None = None


def mean_of(
    study: Study, specs: Sequence[RoundSpec], collected: Sequence[Collected], record: RunRecord
) -> Mean | None:
    """The mean of one attempt, or None when it is void; `record` says why.

    A group whose sum holds weights that nobody can have is void like one that did not open.
    """
    opened = [
        (each, group)
        for spec, each in zip(specs, collected, strict=True)
        if (group := _opened(study, spec, each, record)) is not None
    ]
    if study.robust is not None:
        return _combined(study, study.robust, specs, opened, record)
    for each, group in opened:
        body = {"transcript": record.transcript_of(group.spec), "sum_digest": each.sum_digest}
        return Mean(group.mean.values, group.mean.loss, "round-closed", body)
    return None


def _opened(
    study: Study, spec: RoundSpec, collected: Collected, record: RunRecord
) -> OpenedGroup | None:
    if collected.total is None:
        return None
    try:
        return OpenedGroup.of(study, spec, collected.total, survivors=len(collected.survivors))
    except ProtocolViolation as error:  # a hospital has masked what cannot be a weight
        record.void(spec, str(error))
        return None


def _combined(
    study: Study,
    plan: Robust,
    specs: Sequence[RoundSpec],
    opened: Sequence[tuple[Collected, OpenedGroup]],
    record: RunRecord,
) -> Mean | None:
    for each, group in opened:
        record.group_closed(group.spec, each.sum_digest)
    if len(opened) < plan.fewest:
        record.not_combined(f"{len(opened)} of {len(specs)} groups opened, {plan.fewest} were due")
        return None
    combined = combined_round(study, plan, [group for _, group in opened])
    survivors = {record.transcript_of(group.spec): each.survivors for each, group in opened}
    transcripts = sorted(survivors)
    body: Json = {
        "transcripts": transcripts,
        "rule": plan.rule.value,
        "void": sorted({record.transcript_of(spec) for spec in specs} - survivors.keys()),
        "flagged": list(combined.flagged),
    }
    flagged = frozenset(transcripts.index(each) for each in combined.flagged)
    groups = GroupedRound(tuple(survivors[each] for each in transcripts), flagged)
    return Mean(combined.values, combined.loss, "round-combined", body, groups)
