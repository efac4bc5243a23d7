"""The coordinator service: a gateway for the hospitals, and one submitted study after the other.

A study's loop is a standard Flower ServerApp over the in-process Grid.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from flwr.app import Context, RecordDict
from flwr.serverapp import Grid, ServerApp
from safetensors.numpy import save

from wardround.audit.bundle import write_bundle
from wardround.audit.evidence import COORDINATOR
from wardround.audit.html import render_html
from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.durable import write_durably
from wardround.errors import BadInput, WardroundError
from wardround.evidence.entry import MAX_ENTRY_BYTES
from wardround.evidence.log import EvidenceLog
from wardround.models.networks import build, load_parameters
from wardround.protocol.envelope import BODY_LIMIT_BYTES, Vector
from wardround.protocol.halves import digest_of_model
from wardround.protocol.specs import statistics_noise_lanes
from wardround.statistics.scaling import standardisations
from wardround.study.files import STUDY_LIMIT_BYTES, read_signed_study
from wardround.study.manifest import Mechanism, Study
from wardround.wire import WireLimits
from wardround_server.fleet_server import FleetOptions, RunningFleet, start_fleet
from wardround_server.grid import HospitalGrid
from wardround_server.home import COMPARISON, CoordinatorHome
from wardround_server.rounds.closing import RunCloser
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.run import Run, longest_sum
from wardround_server.rounds.uploads import UploadStore
from wardround_server.stamping import TimeStamping, stamp_at_the_end

log = logging.getLogger("wardround.coordinator")

EXIT_BUG = 5
EXIT_FEWER_HOSPITALS = 8
MOST_PARAMETERS = 1 << 28
_IDLE_S = 0.2


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One study's folder at the coordinator."""

    path: Path

    @property
    def result(self) -> Json | None:
        """How the run ended, or None while it has not."""
        file = self.path / "result.json"
        return json.loads(file.read_text()) if file.exists() else None

    def finish(self, result: Json) -> None:
        """Write how the run ended; a finished run is never started again."""
        write_durably(self.path / "result.json", json.dumps(result, sort_keys=True).encode())


@dataclass(slots=True)
class Coordinator:
    """Serves hospitals and runs studies until it is interrupted."""

    home: CoordinatorHome

    def serve(self, *, once: bool) -> int:
        """Run every submitted study, waiting for more; `once` leaves after the first.

        Returns the exit code of the last run: 0, or 8 with fewer hospitals than planned.
        """
        settings = self.home.settings()
        TimeStamping.of(self.home)  # what is wrong with it is said now, not at the end of a run
        limits = WireLimits(body_bytes=BODY_LIMIT_BYTES, vector_bytes=4 * MOST_PARAMETERS)
        fleet = start_fleet(
            self.home.directory,
            host=settings.listen,
            port=settings.port,
            names=[settings.address.rpartition(":")[0].strip("[]")],
            options=FleetOptions(limits=limits),
        )
        with fleet:
            log.info("listening on %s:%s", settings.listen, fleet.port)
            for folder in self._submitted():
                code = self.run(folder, fleet)
                if once:
                    return code
        return 0

    def run(self, folder: RunFolder, fleet: RunningFleet) -> int:
        """Run one study to its end; what goes wrong is written into its result."""
        log.info("study %s: its run begins, or goes on", folder.path.name[:16])
        try:
            with closing(fleet.open_grid()) as grid:
                result = StudyLoop(self.home, folder).run(grid)
        except WardroundError as error:
            log.error("%s: %s", type(error).__name__, error)  # noqa: TRY400  # the message says it
            result = {
                "error": type(error).__name__,
                "message": str(error),
                "exit_code": error.exit_code,
            }
            fits = getattr(error, "epsilon_that_fits", None)
            if fits is not None:
                result["epsilon_that_fits"] = fits
        except Exception as error:
            # A bug in one study must not end the service, nor be run again when it restarts.
            log.exception("this is a bug")
            result = {
                "error": type(error).__name__,
                "message": f"a bug: {type(error).__name__}; the coordinator's log says where",
                "exit_code": EXIT_BUG,
            }
        folder.finish(result)
        log.info("study %s: ended with exit code %s", folder.path.name[:16], result["exit_code"])
        return int(result["exit_code"])

    def _submitted(self) -> Iterator[RunFolder]:
        while True:
            waiting = [RunFolder(path) for path in self.home.run_folders()]
            yield from (folder for folder in waiting if folder.result is None)
            time.sleep(_IDLE_S)


@dataclass(slots=True)
class StudyLoop:
    """One study from submission to bundle."""

    home: CoordinatorHome
    folder: RunFolder

    def run(self, grid: HospitalGrid) -> Json:
        """Run as a Flower ServerApp over `grid`; return the result."""
        results: list[Json] = []
        app = ServerApp()

        @app.main()
        def main(grid: Grid, context: Context) -> None:
            del context
            if not isinstance(grid, HospitalGrid):
                raise BadInput("the study loop needs a grid that knows hospitals by name")
            results.append(self._run(grid))

        node = Context(
            run_id=grid.run.run_id,
            node_id=0,
            node_config={},
            state=RecordDict(),
            run_config={},
        )
        app(grid=grid, context=node)
        return results[0]

    def _run(self, grid: HospitalGrid) -> Json:
        signed = (self.folder.path / "study.json").read_bytes()
        identity = self.home.identity()
        study = read_signed_study(signed, signer=identity.public_key)
        keys = self.home.identity_keys(study)
        with EvidenceLog.open(self.folder.path / "evidence.sqlite", COORDINATOR, identity) as log:
            record = RunRecord(study, self._run_id(), log, self.folder.path / "status.json")
            manifest = parse_canonical(signed, what="study.json", limit_bytes=STUDY_LIMIT_BYTES)
            uploads = self._uploads(study)
            checkpoint = self.folder.path / "checkpoint"
            grace_s = self.home.settings().join_grace_s
            run = Run(study, record, grid, manifest, keys, checkpoint, uploads, grace_s)
            model, session = run.train_and_evaluate()
            digest = digest_of_model(study, model, run.scale)
            self._state_comparison(record)
            completed = record.closed(study.rounds.count, digest)
            record.show(state="closing")
            post = Post(grid, lanes=longest_sum(study))
            closer = RunCloser(post, record, signed, identity.public_key, keys)
            trained = model if study.rounds.count else None
            evidence = closer.close(session, trained, deadline_s=study.rounds.deadline_s)
            evidence = replace(evidence, uploads=uploads.read())
            bundle = self.folder.path / "bundle.zip"
            report = write_bundle(bundle, evidence, identity=identity)
            self._write_report(report)
            if trained is not None:
                self._write_model(run, trained)
            stamped = stamp_at_the_end(self.home, bundle)
            record.show(state="done")
        # Without what it was for the run did not end as planned either (decision 0003).
        aim = report["evaluation" if study.rounds.count else "statistics"]
        everybody = len(completed) == len(study.roster) and aim["place"]
        return {
            "exit_code": 0 if everybody else EXIT_FEWER_HOSPITALS,
            "hospitals_planned": len(study.roster),
            "hospitals_completed": completed,
            "rounds": study.rounds.count,
            **stamped,
        }

    def _state_comparison(self, record: RunRecord) -> None:
        """Of a rehearsal that compared: what it left for the log when it submitted the study."""
        path = self.folder.path / COMPARISON
        if path.exists():
            content = path.read_bytes()
            record.compared(parse_canonical(content, what=path.name, limit_bytes=MAX_ENTRY_BYTES))

    def _write_report(self, report: Json) -> None:
        path = self.folder.path
        write_durably(path / "report.json", canonical_bytes(report))
        write_durably(path / "report.html", render_html(report).encode())

    def _write_model(self, run: Run, model: Vector) -> None:
        """The trained network; with it, how its features are scaled when statistics say so."""
        study = run.study
        network = build(study)
        load_parameters(network, torch.from_numpy(model))
        tensors = {name: value.detach().numpy() for name, value in network.named_parameters()}
        metadata = {"study_digest": study.digest, "study": study.name, "run": run.record.run}
        if run.scale is not None:
            scales = standardisations(run.scale, statistics_noise_lanes(study, run.scale))
            listed = {"columns": [scale.to_json() for scale in scales]}
            metadata["standardisation"] = canonical_bytes(listed).decode()
        path = self.folder.path / "model.safetensors"
        write_durably(path, save(tensors, metadata=metadata))

    def _uploads(self, study: Study) -> UploadStore:
        """Nothing is kept but updates that each carry their hospital's own noise."""
        noised = study.privacy.mechanism is Mechanism.LOCAL
        limit_bytes = self.home.settings().keep_uploads_bytes if noised else 0
        return UploadStore(self.folder.path / "uploads", limit_bytes)

    def _run_id(self) -> str:
        return (self.folder.path / "run-id").read_text()
