"""Hydra behind two doors: `compose` in other programs, `command_line` as an application."""
