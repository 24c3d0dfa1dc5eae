"""Cost models: they price recorded calls. One file a cost model."""
