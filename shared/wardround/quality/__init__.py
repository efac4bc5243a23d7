"""Whether a hospital's data are fit for a study: verdict words, and what a datasheet may say."""
