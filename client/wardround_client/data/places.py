"""Where a column's numbers lie in an encoded record."""

from wardround.study.contract import Column, Contract


def places(contract: Contract) -> list[tuple[Column, slice]]:
    """Each column and where its features lie in the last axis of a record that is no image."""
    found, start = [], 0
    for column in contract.columns:
        stop = start + len(column.features())
        found.append((column, slice(start, stop)))
        start = stop
    return found
