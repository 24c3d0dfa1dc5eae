"""Plugins of Hydra's that start the jobs of a sweep elsewhere, or search."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from automix_eval.config.overrides import ConfigError
from automix_eval.safety.text import did_you_mean

# Option of hydra/launcher or hydra/sweeper -> module of its plugin and the extra that installs it.
PLUGINS = {
    "processes": ("hydra_joblib_launcher", "joblib"),
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "slurm": ("hydra_submitit_launcher", "submitit"),
    "submitit_here": ("hydra_submitit_launcher", "submitit"),
    "submitit_local": ("hydra_submitit_launcher", "submitit"),
    "submitit_slurm": ("hydra_submitit_launcher", "submitit"),
    "ray_here": ("hydra_ray_launcher", "ray"),
    "ray": ("hydra_ray_launcher", "ray"),
    "search": ("hydra_optuna_sweeper", "optuna"),
    "optuna": ("hydra_optuna_sweeper", "optuna"),
}


def check_plugin(key: str, option: str, known: Sequence[str]) -> None:
    """Refuse a launcher or sweeper that is not there.

    Args:
        key: ``hydra/launcher`` or ``hydra/sweeper``.
        option: What was chosen.
        known: What Hydra has of it.

    Raises:
        ConfigError: It is unknown (with the nearest), or its plugin is not installed.
    """
    module, extra = PLUGINS.get(option, ("", ""))
    if module and not _has_plugin(module):
        apart = " in an environment without constraints.txt, which its joblib contradicts"
        raise ConfigError(
            f"{key}={option} needs a plugin of Hydra that is not installed: "
            f"pip install 'automix-eval[{extra}]'{apart if extra == 'ray' else ''}"
        )
    if option not in known:
        raise ConfigError(
            f"{key}={option} is unknown{did_you_mean(option, known)} "
            f"Options of {key}: {', '.join(known)}"
        )


def _has_plugin(module: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{module}") is not None
    except ModuleNotFoundError:  # hydra_plugins itself comes with the first plugin
        return False
