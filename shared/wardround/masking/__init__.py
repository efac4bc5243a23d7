"""Pairwise masks in one trip: the coordinator learns a sum and no hospital's update.

PROTOCOL.md sections 3 to 7 are the normative text; every module here is pure: no socket, file or
clock, and randomness is an argument.
"""
