"""Per-patient DP-SGD at the hospital: sample, clip, noise, step; each stage a type of its own."""
