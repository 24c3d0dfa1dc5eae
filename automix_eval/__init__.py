"""AutoMix (arXiv 2310.12963) as a model of the lm-evaluation-harness."""

__version__ = "0.1.0"
