"""One clipped gradient per patient: the sum that has a known sensitivity.

Records of a patient are averaged before the ONE clip, so that a patient with many records counts
like a patient with one. How the gradients are formed is in `gradients`.
"""

from wardround_client.gradients.clipping import Clipping
from wardround_client.gradients.engine import (
    RECORDS_AT_ONCE,
    PerPatient,
    PerRecordLoss,
    clipped_sum,
    per_patient,
)

per_record = per_patient

__all__ = [
    "RECORDS_AT_ONCE",
    "Clipping",
    "PerPatient",
    "PerRecordLoss",
    "clipped_sum",
    "per_patient",
    "per_record",
]
