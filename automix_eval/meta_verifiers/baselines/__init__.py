"""Routers to compare with, one file each; the same contract as the others."""
