"""What the sums of a run have to be, from the hospitals' own files: nothing of a run is hidden.

A study without noise and with everybody in every batch is a function of its data. So whoever has
all of it, as this test has, computes each hospital's lanes again, adds up those of the survivors
whom the log names, and steps the model: every opened sum and every model of the log must come out.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors.numpy import load_file
from tests.support.small_federation import Federation, bundle_log

from wardround.canonical import Json
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.masking.update import update_digest
from wardround.models.networks import binary_loss, build, load_parameters, parameters_of
from wardround.optimisers import OptimiserState, step
from wardround.protocol.envelope import Vector
from wardround.protocol.halves import model_digest
from wardround.protocol.specs import evaluation_layout
from wardround.protocol.weighting import mean_update
from wardround.randomness import system_randomness
from wardround.study.manifest import Study
from wardround_client.approval import approved_study
from wardround_client.held_out import evaluated_outcomes
from wardround_client.plans import step_sizes, training_plan
from wardround_client.records import StudyRecords, load_records
from wardround_client.training.local import train
from wardround_client.training.stages import lanes_of

# The largest float below 1: a patient is left out of a batch once in 2^53 draws.
EVERYBODY = 0.9999999999999999
PLAIN = (
    'privacy.mechanism="none"',
    f"privacy.sampling_rate={EVERYBODY!r}",
    'evaluation.counts="exact"',
)

_CLOSED = {"round-closed", "evaluation-closed"}


@dataclass(slots=True)
class Checked:
    """How much was computed again, and who was not in a sum or vanished while it was opened."""

    sums: int = 0
    dropped: list[str] = field(default_factory=list)
    vanished: list[tuple[str, str]] = field(default_factory=list)

    def __add__(self, other: "Checked") -> "Checked":
        return Checked(
            self.sums + other.sums, self.dropped + other.dropped, self.vanished + other.vanished
        )


class PlainRun:
    """All hospitals' records of one study, and the model as the plain sums move it."""

    def __init__(self, ward: Federation, study: Study) -> None:
        torch.set_num_threads(1)  # as the daemons do: the order of additions is the same
        self.study = study
        self.model: Vector = parameters_of(build(study)).numpy()
        self._state = OptimiserState()
        self._records: dict[str, StudyRecords] = {
            name: load_records(approved_study(ward.hospital(name), study)) for name in study.names()
        }

    def lanes(self, hospital: str, spec: RoundSpec) -> Lanes:
        """What this hospital masks for `spec`."""
        network = build(self.study)
        load_parameters(network, torch.from_numpy(self.model.copy()))
        records = self._records[hospital]
        if spec.purpose is Purpose.EVALUATE:
            outcomes = evaluated_outcomes(network, records, self.study, system_randomness)
            return evaluation_layout(self.study).count(outcomes).exact()
        plan = training_plan(self.study, hospitals=len(spec.cohort))
        update, _ = train(
            network,
            records.train,
            binary_loss,
            plan,
            step_sizes(self.study),
            randomness=system_randomness,
        )
        return lanes_of(update, scale=spec.scale, limit=spec.limit)

    def check(self, spec: RoundSpec, survivors: list[str], closed: Json) -> None:
        """The opened sum is that of these hospitals' lanes; it moves the model as the log says."""
        assert model_digest(self.model) == spec.model_digest
        total = np.sum([self.lanes(name, spec).astype(np.int64) for name in survivors], axis=0)
        due = total.astype(np.int32)
        assert update_digest(due) == closed["sum_digest"], (spec.round, survivors)
        if spec.purpose is Purpose.EVALUATE:
            assert due.tolist() == closed["counts"]
            return
        mean = mean_update(due, self.study, spec, hospitals=len(survivors))
        self.model = step(self.model, mean.values, self.study.training.server, self._state)
        assert model_digest(self.model) == closed["model_after"]


def check_opened_sums(ward: Federation, study: Study) -> Checked:
    """Every sum and model in the log of a finished run, and its final model, come out again."""
    folder, plain, found = ward.run_folder(study), PlainRun(ward, study), Checked()
    log = bundle_log(folder / "bundle.zip")
    specs = {e["body"]["transcript"]: e["body"]["spec"] for e in log if e["type"] == "round-opened"}
    agreed: dict[str, list[str]] = {}
    for entry in log:
        kind, body = entry["type"], entry["body"]
        if kind == "survivors-agreed":
            agreed[body["transcript"]] = body["survivors"]
        elif kind == "hospital-vanished":
            found.vanished.append((body["hospital"], body["stage"]))
        elif kind == "hospital-missed":
            found.dropped.append(body["hospital"])
        elif kind in _CLOSED:
            spec = RoundSpec.from_json(specs[body["transcript"]])
            plain.check(spec, agreed[body["transcript"]], body)
            found.sums += 1
    model = load_file(folder / "model.safetensors")
    network = build(study)
    load_parameters(network, torch.from_numpy(plain.model))
    for name, value in network.named_parameters():
        assert np.array_equal(model[name], value.detach().numpy()), name
    return found
