"""Meta-verifiers: they keep an answer or send the question on. One file a meta-verifier."""
