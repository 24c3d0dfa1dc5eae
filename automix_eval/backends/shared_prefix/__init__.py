"""Prompts that begin alike are read once: tree, cache, decoding and scoring."""
