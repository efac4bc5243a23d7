"""The messages of one run, as both sides read them (PROTOCOL 6)."""
