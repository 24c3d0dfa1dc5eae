"""What every tier did: on disk, as columns, and as outcomes from runs and tables."""
