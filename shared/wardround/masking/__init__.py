"""Masks: the coordinator learns a sum and no hospital's update.

With double masks a sum opens although hospitals go away; with one trip it needs the whole cohort.
PROTOCOL.md sections 3 to 7 are the normative text; every module here is pure: no socket and no
file, and randomness is an argument. One of them looks at a clock: `keystream` times two engines
that give the same bytes, and takes the faster one.
"""
