"""What a clinician reads about a model, computed from pooled counts alone."""
