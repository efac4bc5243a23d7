"""The engine audited at the hospital: a dry run on synthetic canaries beside the real training."""
