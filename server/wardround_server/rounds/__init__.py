"""One run: a pure state machine, the loop that drives it, and what is kept of it."""
