"""Studies that call models."""
