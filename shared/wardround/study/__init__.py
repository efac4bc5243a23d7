"""The study: what the hospitals agree to, as one signed manifest."""
