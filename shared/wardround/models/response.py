"""Family response: a molecule's fingerprint or an expression profile -> targets.

Several yes-or-no targets or several numbers are predicted together; a missing target of a record
adds nothing to its loss.
"""

from torch import nn

from wardround.models import risk
from wardround.study.manifest import StudyPlan


def network(study: StudyPlan) -> nn.Module:
    """The study's network: [records, features] -> logits or scaled values [records, targets]."""
    return risk.network(study)
