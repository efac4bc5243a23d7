"""The installed networks: a study names one of them, no study brings code."""
