"""Attacks that a hospital runs on its own patients: on a released model, and on what it sent."""
