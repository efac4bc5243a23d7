"""Models of this hospital's own, whose scores of held-out patients are counted beside the study's.

Only where the study asks for it (`evaluation.beside`) and this hospital's policy allows it: neither
model has noise, so what is counted tells of training patients, too (decision 0022). Training alone
takes as long as all rounds, so it is done when the study is approved and no deadline runs.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from wardround.errors import BadInput
from wardround.evaluation.layout import Outcomes
from wardround.models.networks import build, parameters_of
from wardround.models.released import read_tensors
from wardround.randomness import Randomness
from wardround.study.manifest import Study
from wardround_client.approval import ApprovedStudy
from wardround_client.comparison.training import Model
from wardround_client.held_out import held_out_outcomes
from wardround_client.home import HospitalHome
from wardround_client.personalisation.own_models import fine_tuned, network_of, train_alone
from wardround_client.prediction.own_files import write_new
from wardround_client.records import StudyRecords, load_records
from wardround_client.training.plan import PatientRecords

log = logging.getLogger("wardround.hospital")

ALONE, PERSONALISED = "local-only", "personalised"
FOLDER = "models-beside"
# Not the name in released files: whoever reads those refuses this one.
_TENSOR = "trained alone, without noise"


def before_approval(
    home: HospitalHome, approved: ApprovedStudy, randomness: Randomness, say: Callable[[str], None]
) -> None:
    """Train alone while nobody waits, if the study asks for it. Raises BadInput for its data."""
    if ALONE in approved.study.evaluation.beside:
        say("training alone on this hospital's patients: as long as all rounds of the study take")
        records = load_records(approved)
        trained_alone(home, approved.study, records.train, randomness)


def trained_alone(
    home: HospitalHome, study: Study, patients: PatientRecords, randomness: Randomness
) -> Model:
    """The model that was kept for this study and these patients, else a new one, kept from now on.

    One that does not converge is the study's start: it scores like one that learnt nothing.
    """
    path = _path(home, study, patients)
    if path.exists():
        return _read(path, study)
    model = train_alone(study, patients, randomness)
    if not np.isfinite(model).all():
        log.warning("training alone: values that are not finite came, the study's start is scored")
        model = parameters_of(build(study)).numpy().copy()
    forget(home, study)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    write_new(new, save({_TENSOR: np.ascontiguousarray(model, dtype=np.float32)}))
    new.replace(path)
    return model


def forget(home: HospitalHome, study: Study) -> None:
    """Remove what was kept for this study: after its run nobody needs it."""
    for path in (home.directory / FOLDER).glob(f"{study.digest}-*"):
        path.unlink(missing_ok=True)


def outcomes_beside(
    home: HospitalHome,
    study: Study,
    model: Model,
    records: StudyRecords,
    outcomes: Outcomes,
    randomness: Randomness,
) -> npt.NDArray[np.float64]:
    """[ways, patients, channels]: what the study's ways beside its `model` say of the held-out.

    A hospital without training patients, or whose tuning does not converge, has nothing to
    personalise by: the study's own model stands in, so that its patients are counted all the same.
    """
    said = np.empty((len(study.evaluation.beside), *outcomes.outputs.shape))
    for at, way in enumerate(study.evaluation.beside):
        if way == ALONE:
            own = trained_alone(home, study, records.train, randomness)
        else:
            own = _personalised(study, model, records.train, randomness)
        network = network_of(study, own)
        said[at] = held_out_outcomes(network, records.held_out, study).outputs
    return said


def _personalised(
    study: Study, model: Model, patients: PatientRecords, randomness: Randomness
) -> Model:
    try:
        return fine_tuned(study, model, patients, randomness)
    except BadInput as error:
        log.warning("personalised: the study's model stands in: %s", error)
        return model


def _path(home: HospitalHome, study: Study, patients: PatientRecords) -> Path:
    """Named by study and training patients: another table has another file."""
    found = hashlib.sha256(b"wardround/1 training patients")
    for part in (patients.features.numpy(), patients.labels.numpy(), patients.offsets):
        found.update(f"{part.dtype} {part.shape};".encode())
        found.update(np.ascontiguousarray(part).data)
    return home.directory / FOLDER / f"{study.digest}-{found.hexdigest()[:32]}.safetensors"


def _read(path: Path, study: Study) -> Model:
    tensors, _ = read_tensors(path)
    vector = tensors.get(_TENSOR)
    due = (parameters_of(build(study)).numel(),)
    if vector is None or vector.shape != due or vector.dtype != np.float32:
        raise BadInput(f"{path.name}: it is no model of the study's network")
    return vector
