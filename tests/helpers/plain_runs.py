"""Plain runs of scripted models by the harness alone, with --log_samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripted import SCRIPTS

TASK = "pick"


def pick_task(folder: Path, number: int = 40, metric: str = "acc", name: str = TASK) -> Path:
    """A multiple-choice task; choices of different length; two questions a document."""
    rows = [
        {
            "question": f"{i} plus one?", "document_id": f"d{i // 2}",
            "options": [f"{i}", f"surely {i + 1}", f"{i + 2} or so, one would say"], "gold": 1,
        }
        for i in range(number)
    ]  # fmt: skip
    for split in ("train", "validation"):
        rows = [{**r, "document_id": f"{split} {r['document_id']}"} for r in rows]
        (folder / f"{name}_{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = folder / f"{name}.yaml"
    path.write_text(
        f"task: {name}\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{train: {folder}/{name}_train.jsonl, "
        f"validation: {folder}/{name}_validation.jsonl}}}}\n"
        "output_type: multiple_choice\ntraining_split: train\nvalidation_split: validation\n"
        "doc_to_text: '{{question}}'\ndoc_to_choice: '{{options}}'\ndoc_to_target: gold\n"
        f"metric_list: [{{metric: {metric}, aggregation: mean, higher_is_better: true}}]\n"
    )
    return path


def noisy(share: float, by_length: bool = False) -> Any:
    """A script whose log-probabilities depend on the question, right for about a share of them.

    With ``by_length`` the share is that of a metric which divides by the choice's length.
    """

    def script(prompt: str, generation: Mapping[str, Any]) -> str:
        if not prompt.strip():  # acc_mutual_info asks for each choice without its question
            return "-2.0"
        number = int(prompt.rsplit("\n", 1)[-1].split()[0])
        text = str(generation["continuation"]).strip()
        right = text.startswith("surely")
        lean = ((number * 37 + 11) % 100) / 100 - share  # below 0: right
        value = -1.5 - 0.013 * len(text) + (-2.1 * lean if right else 0.1)
        value -= ((number * 7 + len(text)) % 5) / 17
        return repr(value * len(text) if by_length else value)

    return script


MODELS = {
    "small-1B": noisy(0.4),
    "large-70B": noisy(0.9),
    "small-1B-long": noisy(0.4, by_length=True),
    "large-70B-long": noisy(0.9, by_length=True),
}


def plain_run(task: Path, script: str, output: Path, **options: Any) -> Path:
    """One evaluation of a scripted model by the harness alone, written like the command does."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    SCRIPTS.update(MODELS)
    tracker = EvaluationTracker(output_path=str(output))
    results = lm_eval.simple_evaluate(
        model="scripted",
        model_args={"script": script},
        tasks=[str(task)],
        task_manager=TaskManager(include_defaults=False),
        evaluation_tracker=tracker,
        log_samples=True,
        bootstrap_iters=0,
        **options,
    )
    assert results is not None
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for name in results["configs"]:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    return output
