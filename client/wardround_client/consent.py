"""Approval and policy are read anew with each message of a round.

An officer can say no in mid-run.
"""

from wardround.errors import RefusedByPolicy
from wardround.protocol.messages import RefusalCode
from wardround.study.manifest import Study
from wardround_client.approval import is_approved
from wardround_client.home import HospitalHome
from wardround_client.policy import check_study
from wardround_client.refusal import StudyRefused


def refuse_without_consent(home: HospitalHome, study: Study) -> None:
    """Raise StudyRefused unless the study is approved and within the policy now."""
    if not is_approved(home, study):
        raise StudyRefused(RefusalCode.NOT_APPROVED, f"study {study.name}: not approved")
    try:
        check_study(home.policy(), study)
    except RefusedByPolicy as error:
        raise StudyRefused(RefusalCode.POLICY, str(error)) from error
