"""Replays: any meta-verifier or baseline fitted and scored on stored outcomes, no model call."""
