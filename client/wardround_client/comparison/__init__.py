"""What a rehearsal can compare, since it has all data on one machine: alone, together, pooled."""
