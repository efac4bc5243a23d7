"""Means of groups instead of one mean: rules that withstand a few wrong ones, and who is behind."""
