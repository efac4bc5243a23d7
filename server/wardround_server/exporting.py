"""A trained model on its way out: with its card, its report and its bundle."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from wardround.audit.model_card import markdown, model_card, read_report
from wardround.audit.report_model import Report
from wardround.canonical import canonical_bytes, parse_json
from wardround.errors import BadInput, VerificationFailed
from wardround.models.networks import parameters_of
from wardround.models.onnx_export import to_onnx, with_reading
from wardround.models.released import read_released
from wardround.protocol.halves import digest_of_model
from wardround.study.files import read_signed_study
from wardround.study.manifest import Study
from wardround_server.home import CoordinatorHome
from wardround_server.status import study_state

MODEL = "model.safetensors"
REPORT = "report.json"
_COPIED = (MODEL, "report.html", REPORT, "bundle.zip")
_HASHED = (MODEL, "model.onnx", "bundle.zip")
_REPORT_LIMIT_BYTES = 64 << 20


def exported(home: CoordinatorHome, name: str, *, onnx: bool = False) -> dict[str, bytes]:
    """The files of a finished study's model, by name; with `onnx` also model.onnx.

    Raises BadInput when there is no model, VerificationFailed when the model is not the report's
    or onnxruntime gives other numbers.
    """
    state = study_state(home, name)
    if state["state"] != "done":
        raise BadInput(f"study {name}: it is {state['state']}, there is no model to export")
    folder = home.run_folder(state["digest"])
    if not (folder / MODEL).exists():
        raise BadInput(f"study {name}: it asks for statistics only, there is no model to export")
    files = {one: (folder / one).read_bytes() for one in _COPIED}
    signed = (folder / "study.json").read_bytes()
    study = read_signed_study(signed, signer=home.identity().public_key)
    value = parse_json(files[REPORT], what=REPORT, limit_bytes=_REPORT_LIMIT_BYTES)
    report = read_report(files[REPORT], value)
    if onnx:
        files["model.onnx"] = _onnx(folder / MODEL, study, report, files[REPORT])
    card = model_card(report, files[REPORT], {n: files[n] for n in _HASHED if n in files})
    files["model_card.json"] = canonical_bytes(card)
    files["MODEL_CARD.md"] = markdown(card).encode()
    return files


def write_export(files: Mapping[str, bytes], out: Path) -> None:
    """Write the files into a new folder. Raises BadInput when it is there already."""
    if out.exists():
        raise BadInput(f"--out {out.name}: it exists already, and nothing is overwritten")
    out.mkdir(parents=True)
    try:
        for name, content in files.items():
            (out / name).write_bytes(content)
    except BaseException:  # a model never travels without its evidence, on a full disk neither
        shutil.rmtree(out)
        raise


def _onnx(path: Path, study: Study, report: Report, content: bytes) -> bytes:
    released = read_released(path, study)
    due = report.run.model_digest
    # With scales the digest is over the released statistics, too, which this file does not have.
    model = digest_of_model(study, parameters_of(released.network).numpy())
    if not released.scales and model != due:
        raise VerificationFailed(f"{path.name}: it is not the model that the report is about")
    metadata = {
        "study": study.name,
        "study_digest": study.digest,
        "run": released.run,
        "model": str(due),
        "report": hashlib.sha256(content).hexdigest(),
    }
    network = with_reading(released.network, study, released.scales)
    return to_onnx(network, study, metadata)
