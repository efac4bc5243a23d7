"""Per-patient gradients by book-keeping: one forward, one backward, then one clipped sum.

The backward pass forms no parameter gradient. Each layer call leaves what its per-patient
gradients are made of (a `Use`), norms come from these, and the clipped sum too.
(Bu et al. 2022, "Differentially private optimization on large model at small cost")
"""
