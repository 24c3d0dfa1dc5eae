"""Policies without an evaluation: the calibration of a run, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.harness.evaluate import EvaluationError, evaluate
from automix_eval.harness.model import AutoMixLM

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from automix_eval.harness.evaluation_frames import HarnessRun


class _Fitted(Exception):  # noqa: N818  not an error: it ends the harness before the evaluation
    pass


class _FitLM(AutoMixLM):
    """The cascade, which fits the meta-verifier of every task and asks no evaluation question."""

    def _answer_all(self, requests: list[Instance], run: HarnessRun) -> NoReturn:
        del requests
        for tier in self.tiers:
            tier.chat = run.apply_chat_template
        run = self._supported(run)
        self.log.write_into(self._records_folder(run))
        for name in sorted(run.tasks):
            self.routers.of(self._view(name, run))
        raise _Fitted


def fit(
    model_args: Mapping[str, Any],
    tasks: Sequence[str],
    output_path: Path,
    *,
    batch_size: int | str | None = None,
    max_batch_size: int | None = None,
    device: str | None = None,
    **settings: Any,
) -> list[Path]:
    """Fit the meta-verifier of each task.

    Args:
        model_args: As of :func:`automix_eval.harness.evaluate.evaluate`.
        tasks: Likewise.
        output_path: Likewise.
        batch_size: Likewise.
        max_batch_size: Likewise.
        device: Likewise.
        **settings: Likewise.

    Returns:
        The policies' files; the calibration records and the manifest lie beside them.

    Raises:
        AutoMixError: The meta-verifier learns nothing, or what an evaluation raises.
    """
    made = config.build(model_args)
    if not parts.make_meta_verifier(made).needs_fit or made.meta_verifier.policy:
        raise EvaluationError(
            f"meta_verifier={config.name_of(made, 'meta_verifier')} has nothing to fit: choose one "
            "that learns, and leave meta_verifier.policy out"
        )
    model = _FitLM(batch_size, max_batch_size, device, **model_args)
    try:
        evaluate(model_args, tasks, output_path, model=model, **settings | {"limit": 1})
    except _Fitted:
        return sorted(model.log.folder.glob(f"automix_policy_*_{model.run_id}.json"))
    raise EvaluationError(f"{', '.join(tasks)}: the tasks ask nothing, so there is nothing to fit")
