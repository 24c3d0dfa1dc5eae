"""Kinds of arguments that the sub-commands share."""

from __future__ import annotations

import argparse


def natural(text: str) -> int:
    """A number of 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a number of 0 or more is needed")
    return value
