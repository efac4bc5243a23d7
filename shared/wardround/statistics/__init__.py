"""Statistics of patients as one differentially private release per hospital, secure-summed."""
