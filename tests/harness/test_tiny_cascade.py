"""The cascade on real transformers models, tiny and random: every verifier, flag and window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import read_run, run_harness
from tiny_models import save_tiny

TASK = "coqa_demo"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny Llama as SLM and a tiny Gemma 3 as LLM, of different tokenizer counts and windows."""
    arguments: dict[str, Any] = {"progress": False}
    for tier, family in (("slm", "llama"), ("llm", "gemma3")):
        folder = save_tiny(tmp_path_factory.mktemp(family), family)
        arguments |= {
            tier: "hf",
            f"{tier}.pretrained": str(folder),
            f"{tier}.dtype": "float32",
            # the tiny vocabulary spells words out, so passages need a wide window
            f"{tier}.max_length": 4096,
        }
    return arguments


@pytest.mark.parametrize("verifier", ["margin", "p_true", "few_shot"])
@pytest.mark.parametrize("batch_size", [4, "auto"])
def test_every_verifier_runs_on_transformers(
    models: dict[str, Any], tmp_path: Path, verifier: str, batch_size: int | str
) -> None:
    """Confidences are probabilities or have an outcome; the command line's options are taken."""
    few = {"verifier.num_samples": 2, "verifier.max_tokens": 8} if verifier == "few_shot" else {}
    run_harness(
        [TASK],
        models | few | {"verifier": verifier, "meta_verifier": "self_consistency"},
        tmp_path,
        limit=3,
        batch_size=batch_size,
        device="cpu",
        gen_kwargs="max_gen_toks=4",
    )
    _, rows = read_run(tmp_path)
    for row in rows:
        first = row.tiers[0]
        assert (first.answer.calls[0].generated_tokens or 0) <= 4
        assert first.verification is not None
        confidence = first.verification.confidence
        assert (confidence is not None) == (first.verification.outcome == "ok")
        assert confidence is None or 0.0 <= confidence <= 1.0
        assert len(first.verification.calls) == {"margin": 0, "p_true": 1, "few_shot": 2}[verifier]


@pytest.mark.slow
def test_the_batch_size_changes_no_record(models: dict[str, Any], tmp_path: Path) -> None:
    """Answers, confidences and decisions of sampled verifications, in batches of 1, 3 and 8."""
    few = {"verifier": "few_shot", "verifier.num_samples": 2, "verifier.max_tokens": 8}
    found = []
    for size in (1, 3, 8):
        arguments = models | few | {
            "meta_verifier": "self_consistency",
            "store.path": str(tmp_path / f"{size}.sqlite"),
        }  # fmt: skip
        folder = tmp_path / str(size)
        run_harness(
            [TASK], arguments, folder, limit=5, batch_size=size, gen_kwargs="max_gen_toks=4"
        )
        manifest, rows = read_run(folder)
        assert [t["varies"] for t in manifest["tiers"]] == ["", ""]
        found.append(
            [
                (r.doc_id, t.answer.text, t.verification and t.verification.samples, t.decision)
                for r in rows
                for t in r.tiers
            ]
        )
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_p_true_depends_on_no_batch(models: dict[str, Any], tmp_path: Path, dtype: str) -> None:
    """Within 1e-3 in low precision, whatever is read together."""
    found = []
    for size in (1, 3, 8):
        arguments = models | {
            "verifier": "p_true",
            "meta_verifier": "self_consistency",
            "slm.dtype": dtype,
            "store.path": str(tmp_path / f"{size}.sqlite"),
        }
        folder = tmp_path / str(size)
        run_harness(
            [TASK], arguments, folder, limit=5, batch_size=size, gen_kwargs="max_gen_toks=4"
        )
        manifest, rows = read_run(folder)
        assert bool(manifest["tiers"][0]["varies"]) == (dtype == "bfloat16")
        found.append({r.doc_id: r.tiers[0] for r in rows})
    compared = 0
    for other in found[1:]:
        for doc_id, tier in found[0].items():
            assert tier.verification is not None
            # in low precision an answer may differ, and then another one is judged
            compared += other[doc_id].answer.text == tier.answer.text
            if other[doc_id].answer.text == tier.answer.text:
                confidence = other[doc_id].verification.confidence
                assert confidence == pytest.approx(
                    tier.verification.confidence, abs=1e-3 if dtype == "bfloat16" else 1e-5
                )
    assert compared >= 5 if dtype == "bfloat16" else compared == 10


def test_a_context_longer_than_the_window_is_cut_and_counted(
    models: dict[str, Any], tmp_path: Path
) -> None:
    """Demonstrations go first, then the middle of the passage; the manifest says how many."""
    few = {"verifier": "p_true", "meta_verifier": "self_consistency", "slm.max_length": 500}
    results = run_harness(
        [TASK], models | few, tmp_path, limit=3, num_fewshot=2, gen_kwargs="max_gen_toks=4"
    )
    manifest, rows = read_run(tmp_path)
    for row in rows:
        answer, verification = row.tiers[0].answer, row.tiers[0].verification
        assert answer.dropped_demonstrations == 2
        assert answer.cut_context_tokens > 0
        assert (answer.calls[0].prompt_tokens or 0) <= 500 - 4
        assert verification is not None
        assert verification.dropped_demonstrations == 4
        assert verification.cut_context_tokens > 0
    assert any("middle of their context" in w["text"] for w in manifest["warnings"])
    assert len(results["samples"][TASK]) == 3


def test_the_order_of_losses_is_demonstrations_then_context(
    models: dict[str, Any], tmp_path: Path
) -> None:
    """A window one demonstration short costs one demonstration and no passage."""
    args = models | {"meta_verifier": "always_slm"}
    run_harness([TASK], args, tmp_path / "wide", limit=1, num_fewshot=2)
    _, (row,) = read_run(tmp_path / "wide")
    needed = row.tiers[0].answer.calls[0].prompt_tokens
    assert needed
    narrow = args | {"slm.max_length": needed + 100 - 1}
    run_harness([TASK], narrow, tmp_path / "narrow", limit=1, num_fewshot=2)
    _, (row,) = read_run(tmp_path / "narrow")
    answer = row.tiers[0].answer
    assert (answer.dropped_demonstrations, answer.cut_context_tokens) == (1, 0)


@pytest.mark.slow
def test_an_always_slm_run_scores_as_the_harness_s_own_model(
    models: dict[str, Any], tmp_path: Path
) -> None:
    """The same model, prompts and batches give the same answers and the same metrics."""
    import lm_eval
    from lm_eval.tasks import TaskManager
    from scripted import REPO

    ours = run_harness([TASK], models | {"meta_verifier": "always_slm"}, limit=6, batch_size=3)
    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={
            "pretrained": models["slm.pretrained"],
            "dtype": "float32",
            "max_length": 4096,
        },
        tasks=[TASK],
        task_manager=TaskManager(include_path=str(REPO / "tasks"), include_defaults=False),
        limit=6,
        batch_size=3,
        device="cpu",
        bootstrap_iters=0,
    )
    assert theirs is not None
    answers = [[s["filtered_resps"] for s in r["samples"][TASK]] for r in (ours, theirs)]
    assert answers[0] == answers[1]
    assert ours["results"][TASK]["f1,none"] == theirs["results"][TASK]["f1,none"]


def test_multiple_choice_probabilities_are_the_harness_s(
    models: dict[str, Any], tmp_path: Path
) -> None:
    """A multiple-choice task gives the same log-likelihoods as the harness's own model."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    rows = [{"q": f"The ferry leaves at {i}. When?", "gold": i % 2} for i in range(4)]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = tmp_path / "pick.yaml"
    task.write_text(
        "task: pick\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{validation: {tmp_path}/v.jsonl}}}}\n"
        "output_type: multiple_choice\nvalidation_split: validation\ndoc_to_text: '{{q}}'\n"
        "doc_to_choice: ['seven', 'the pier']\ndoc_to_target: gold\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    ours = run_harness(
        [str(task)], models | {"meta_verifier": "self_consistency"}, tmp_path / "out"
    )
    _, records = read_run(tmp_path / "out")
    assert all(0.5 <= r.tiers[0].verification.confidence <= 1.0 for r in records)  # type: ignore[union-attr,operator]
    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": models["slm.pretrained"], "dtype": "float32"},
        batch_size=1,
        tasks=[str(task)],
        task_manager=TaskManager(include_defaults=False),
        device="cpu",
        bootstrap_iters=0,
    )
    assert theirs is not None
    for mine, plain, record in zip(
        ours["samples"]["pick"], theirs["samples"]["pick"], records, strict=True
    ):
        found = [p for p, _ in record.tiers[0].answer.choice_logprobs]
        expected = [resp[0][0] for resp in plain["resps"]]
        assert found == pytest.approx(expected, abs=1e-4)
        assert mine["doc_id"] == plain["doc_id"]
