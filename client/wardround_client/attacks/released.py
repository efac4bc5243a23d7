"""The released model that this hospital kept, read strictly."""

from pathlib import Path

from wardround.errors import BadInput
from wardround.models.released import ReleasedModel, read_released, read_tensors
from wardround.study.manifest import Study
from wardround_client.home import HospitalHome

__all__ = ["ReleasedModel", "own_copy", "read_released"]


def own_copy(home: HospitalHome, study: Study) -> Path:
    """The model of `study` that this hospital kept at the end of the run.

    Raises BadInput when there is none, or more than one.
    """
    paths = sorted((home.directory / "models").glob("*.safetensors"))
    found = [path for path in paths if read_tensors(path)[1].get("study_digest") == study.digest]
    if len(found) != 1:
        raise BadInput(
            f"study {study.name}: {len(found)} released models are kept here, one was due; "
            "--model names a file"
        )
    return found[0]
