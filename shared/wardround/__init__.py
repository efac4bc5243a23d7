"""What coordinator, hospital and verifier must agree on."""

__version__ = "0.1.0"
