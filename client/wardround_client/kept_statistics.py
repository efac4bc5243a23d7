"""Released statistics that this hospital keeps, to hold its own data against: none of it leaves.

Beside what was released stands this hospital's exact part of it. So the file is as private as the
data are, and lies in the hospital's directory alone.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.durable import replace_file
from wardround.errors import BadInput
from wardround.evidence.entry import Entry
from wardround.protocol.messages import Digest, RunId
from wardround.protocol.specs import statistics_layout, statistics_noise_lanes
from wardround.quality.compare import Reference
from wardround.statistics.layout import Sums
from wardround.statistics.released import ReleasedStatistics
from wardround.study.contract import Frozen
from wardround.study.files import checked, read_signed_study
from wardround.study.manifest import Study
from wardround_client.home import HospitalHome
from wardround_client.own_updates import SumMembers
from wardround_client.session import RunSession

_LIMIT_BYTES = 16 << 20
_MOST_LANES = 400_000


class KeptStatistics(Frozen):
    """`statistics/DIGEST.json` of a hospital; `own` is its part of the sums, if it has one."""

    schema_: Literal["wardround.kept-statistics/1"] = Field(alias="schema")
    study_digest: Digest
    run: RunId
    dataset: Annotated[str, Field(max_length=200)]
    kept_at: Annotated[str, Field(max_length=40)]
    released: Json
    own: Annotated[tuple[int, ...], Field(max_length=_MOST_LANES)] | None


def opened_in(study: Study, entries: list[Entry]) -> tuple[ReleasedStatistics, list[str]] | None:
    """The statistics that a coordinator's log says were opened last, and whose sum they are."""
    sums, opened = SumMembers(), []
    for entry in entries:
        sums.see(entry)
        if entry.type == "statistics-closed":
            opened.append(entry.body)
    if not opened:
        return None
    transcript = str(opened[-1].get("transcript"))
    members = sums.members(transcript) or []
    value = {
        "hospitals": len(members),
        "asked": len(sums.cohort(transcript)),
        "sums": opened[-1].get("sums"),
    }
    return ReleasedStatistics.from_json(value, statistics_layout(study)), list(members)


def keep(home: HospitalHome, session: RunSession, opened: Reference) -> None:
    """Keep what a run opened, in the place of what was kept of its study before."""
    value = {
        "schema": "wardround.kept-statistics/1",
        "study_digest": session.study.digest,
        "run": session.run,
        "dataset": session.approved.description.dataset,
        "kept_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "released": opened.released.to_json(),
        "own": None if opened.own is None else opened.own.tolist(),
    }
    folder = home.directory / "statistics"
    folder.mkdir(mode=0o700, exist_ok=True)
    replace_file(folder / f"{session.study.digest}.json", canonical_bytes(value))


def reference_for(home: HospitalHome, study: Study, dataset: str) -> Reference | None:
    """What is kept of this study, else the latest of a study with the same contract; or None.

    A study that only counts is such a one: what it released serves the study that trains after it.
    """
    kept = [_read(path) for path in (home.directory / "statistics").glob("*.json")]
    usable = [each for each in kept if each.dataset == dataset]
    usable.sort(key=lambda each: (each.study_digest == study.digest, each.kept_at), reverse=True)
    for found in usable:
        asked = _study(home, found.study_digest)
        if asked is not None and asked.contract == study.contract:
            return _reference(found, asked)
    return None


def reference_of(study: Study, released: ReleasedStatistics, own: Sums | None) -> Reference:
    """Released statistics with the noise that the study's accountant gives them."""
    return Reference(released, statistics_noise_lanes(study, released), own)


def _reference(kept: KeptStatistics, study: Study) -> Reference:
    try:
        released = ReleasedStatistics.from_json(kept.released, statistics_layout(study))
    except BadInput as error:
        raise BadInput(f"statistics/{kept.study_digest}.json: {error}") from error
    own = None if kept.own is None else np.array(kept.own, dtype=np.int64)
    return reference_of(study, released, own)


def _read(path: Path) -> KeptStatistics:
    if path.stat().st_size > _LIMIT_BYTES:
        raise BadInput(f"{path.name}: over {_LIMIT_BYTES} bytes")
    value = parse_canonical(path.read_bytes(), what=path.name, limit_bytes=_LIMIT_BYTES)
    return checked(KeptStatistics, value, what=path.name)


def _study(home: HospitalHome, digest: str) -> Study | None:
    path = home.studies() / f"{digest}.json"
    if not path.exists():
        return None
    return read_signed_study(path.read_bytes(), signer=home.coordinator_key())
