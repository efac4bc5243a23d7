"""Masks: the coordinator learns a sum and no hospital's update.

With double masks a sum opens although hospitals go away; with one trip it needs the whole cohort.
PROTOCOL.md sections 3 to 7 are the normative text; every module here is pure: no socket, file or
clock, and randomness is an argument.
"""
