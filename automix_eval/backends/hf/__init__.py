"""Models of transformers in this process."""

from automix_eval.backends.hf.backend import HFBackend

__all__ = ["HFBackend"]
