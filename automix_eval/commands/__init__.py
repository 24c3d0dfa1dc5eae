"""The sub-commands of ``automix-eval``, one module each."""
