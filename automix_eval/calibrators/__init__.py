"""Calibrators: from what verifiers said of an answer to the expected score of that answer."""
