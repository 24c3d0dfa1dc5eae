"""The sub-commands of ``automix-eval``, one module each (the report has its own package)."""
