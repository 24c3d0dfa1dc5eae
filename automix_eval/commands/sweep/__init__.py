"""Sweeps: jobs that share calls, resume and end in one table."""
