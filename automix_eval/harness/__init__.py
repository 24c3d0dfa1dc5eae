"""lm-evaluation-harness: the model it runs, its tasks, its ranks and its log."""
