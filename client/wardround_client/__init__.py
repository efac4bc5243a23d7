"""The hospital: trusts nobody, reads its own records, keeps its own ledger."""
