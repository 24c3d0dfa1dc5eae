"""Local weights of transformers, metered."""
