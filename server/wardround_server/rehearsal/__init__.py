"""A rehearsal: the complete federation as real processes over TLS on one machine."""
