"""The privacy audit: bundle, report derived from it, and the verifier that trusts nobody."""
