"""Experiment presets: declared in hydra_conf/experiment, one YAML each, run by ``automix-eval``.

``preset`` reads one, ``sources`` and ``simulate`` give outcomes, ``axes`` varies them, ``study``
fits and scores every cell, ``present`` and ``picture`` show the result.
"""
