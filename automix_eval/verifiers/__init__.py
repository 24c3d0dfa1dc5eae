"""Verifiers: they judge a tier's answer with the tier's own model. One file a verifier."""
