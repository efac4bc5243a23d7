"""Every target by its name."""

from tests.fuzz import (
    targets_bundle,
    targets_data,
    targets_evidence,
    targets_files,
    targets_masking,
    targets_messages,
    targets_tables,
    targets_timestamp,
)

TARGETS = {
    target.name: target
    for module in (
        targets_masking,
        targets_messages,
        targets_evidence,
        targets_bundle,
        targets_files,
        targets_data,
        targets_tables,
        targets_timestamp,
    )
    for target in module.TARGETS
}
