"""Data at the hospital: described, read, checked, encoded and split; nothing here leaves it."""
