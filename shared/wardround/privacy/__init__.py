"""What a release costs: mechanisms, what an engine did, and two accountants. No torch here."""
