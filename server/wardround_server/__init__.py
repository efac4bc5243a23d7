"""The coordinator: trusted for availability, never for privacy."""
