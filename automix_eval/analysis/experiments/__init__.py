"""Studies: one axis varied, every cell scored by the engine of the report."""
