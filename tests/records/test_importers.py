"""Public tables: every format of hydra_conf/format is read, recognised, refused where damaged."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import public_tables as tables
import pytest

from automix_eval.commands.main import main
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.records.importers.answer_costs import answer_costs, parameters_of
from automix_eval.records.importers.chain import Choice, chain_of
from automix_eval.records.importers.every_eval_ever import EveryEvalEver
from automix_eval.records.importers.model_outcomes import Importer, ModelOutcomes
from automix_eval.records.importers.routerbench import RouterBench
from automix_eval.safety.errors import AutoMixError

OWN = ("auto", "table")
PUBLIC = Path(__file__).parents[3] / "shared" / "data" / "public"
CASES = [
    (name, writer)
    for name in config.options("format")
    if name not in OWN
    for writer in tables.WRITERS[name]
]


def importer(name: str, path: Path) -> Importer:
    """A format's importer, by its option."""
    values = config.compose_application("replay", {"format": name}).format
    found = parts.make_importer(name, values, path)
    assert found is not None
    assert name in ("auto", found[0])
    return found[1]


def read(name: str, path: Path) -> ModelOutcomes:
    """What a format's importer makes of a path."""
    return importer(name, path).read(path)


@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_format_gives_the_same_outcomes(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    """Scores, questions and answers of a small file in each schema, whatever its shape."""
    found = read(name, write(tmp_path))
    names = [m.rpartition("/")[2] for m in found.models]
    order = [names.index(m) for m in tables.MODELS]
    assert sorted(names) == sorted(tables.MODELS)
    np.testing.assert_array_equal(found.scores[:, order], tables.SCORES)
    assert found.questions == tables.QUESTIONS
    assert len(set(found.ids)) == len(tables.QUESTIONS)
    if found.answers is not None:
        assert found.answers[1] == tuple(f"A{i}" for i in range(len(tables.QUESTIONS)))
    if found.prompt_tokens is not None and found.generated_tokens is not None:
        assert (found.prompt_tokens == tables.TOKENS[0]).all()
        assert (found.generated_tokens == tables.TOKENS[1]).all()
    if found.costs is not None:
        assert found.costs.mean(axis=0)[order] == pytest.approx(tables.COSTS)
    assert found.answers or found.costs is None  # formats with costs have answers as well


@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_format_is_recognised(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    """format=auto finds the format of each file, and no other format takes it for its own."""
    path = write(tmp_path)
    formats = [n for n in config.options("format") if n not in OWN]
    taken = [n for n in formats if importer(n, path).recognises(path)]
    assert taken == [name]
    assert type(importer("auto", path)) is type(importer(name, path))


@pytest.mark.parametrize(("name", "write"), CASES)
def test_one_command_reads_every_format(
    tmp_path: Path,
    name: str,
    write: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A replay says what was read and what its costs are, and has the table's oracle."""
    path = write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["replay", f"table='{path}'", "meta_verifier=always_llm", "output=out.json"]) == 0
    shown = capsys.readouterr().out
    assert f"format={name}" in shown
    assert "costs: " in shown
    found = json.loads((tmp_path / "out.json").read_text())
    rows = slice(2, None) if name == "routereval" else slice(None)  # its own part to fit on
    assert found["references"]["oracle"]["performance"] == tables.SCORES[rows].max(axis=1).mean()
    assert found["input"]["format"] == name


@pytest.mark.parametrize("name", [n for n in config.options("format") if n not in OWN])
def test_another_file_is_no_table_of_a_format(tmp_path: Path, name: str) -> None:
    """A file said to be of a format and of another says so; an empty folder and a text too."""
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "other.csv", tmp_path / "empty", tmp_path / "absent"):
        made = importer(name, path)
        assert not made.recognises(path)
        with pytest.raises(AutoMixError, match=path.name):
            made.read(path)


@pytest.mark.parametrize("which", [0, -1])
def test_one_broken_file_of_a_tree_is_named(tmp_path: Path, which: int) -> None:
    """Nothing of the tree is used, and the file is named, also where nobody named the format."""
    for name, write, ending in (
        ("llmrouterbench", tables.llmrouterbench, "*.json"),
        ("every_eval_ever", tables.every_eval_ever, "*.jsonl"),
        ("inspect_ai", tables.inspect_ai, "*.json"),
        ("inspect_ai", tables.inspect_ai_zip, "*.eval"),
        ("helm", tables.helm, "per_instance_stats.json"),
    ):
        folder = tmp_path / write.__name__
        folder.mkdir()
        path = write(folder)
        broken = sorted(path.rglob(ending))[which]
        broken.write_bytes(broken.read_bytes()[:-40])
        for option in (name, "auto"):
            with pytest.raises(AutoMixError, match="damaged") as caught:
                read(option, path)
            assert broken.name in str(caught.value)


def test_half_an_npz_is_damaged_and_no_table_without_a_suffix(tmp_path: Path) -> None:
    """The format is known by the suffix, so that its own error is shown."""
    path = tables.routereval(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AutoMixError, match="damaged"):
        read("auto", path)


def test_objects_of_an_npz_are_not_unpickled(tmp_path: Path) -> None:
    """An array of objects is refused with the way to save it; so is a pickle."""
    path = tmp_path / "eval.npz"
    np.savez(path, model=np.array(["a", "b"], dtype=object), test_score=tables.SCORES)
    with pytest.raises(AutoMixError, match=r"'model' is not read.*dtype=str"):
        read("routereval", path)
    (tmp_path / "mmlu_router_dataset.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(AutoMixError, match=r"docs/tables\.md"):
        read("routereval", tmp_path / "mmlu_router_dataset.pkl")


def test_models_that_answered_other_questions_are_not_paired(tmp_path: Path) -> None:
    """A sample_hash that differs between models ends the reading."""
    path = tables.every_eval_ever(tmp_path)
    file = sorted(path.rglob("*.jsonl"))[0]
    file.write_text(file.read_text().replace('"h3"', '"other"'))
    with pytest.raises(AutoMixError, match="not paired"):
        read("every_eval_ever", path)


def test_two_results_of_a_sample_are_no_repeats(tmp_path: Path) -> None:
    """A line a metric, as of HELM's converter: their mean is no score, one of them is chosen."""
    path = tables.every_eval_ever(tmp_path)
    for file in path.rglob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [
            {**row, "evaluation_result_id": name, "evaluation": {"score": score(row)}}
            for row in rows
            for name, score in (
                ("exact_match:test", lambda r: r["evaluation"]["score"]),
                ("rouge_l:test", lambda r: 0.3),
            )
        ]
        file.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(AutoMixError, match=r"'exact_match:test' and 'rouge_l:test'.*result"):
        read("every_eval_ever", path)
    chosen = EveryEvalEver("exact_match").read(path)
    order = [chosen.models.index(m) for m in tables.MODELS]
    np.testing.assert_array_equal(chosen.scores[:, order], tables.SCORES)
    found = parts.make_importer("auto", config.compose_application("replay", {}).format, path,
                                "rouge_l:test")  # fmt: skip
    assert found is not None
    assert (found[1].read(path).scores == 0.3).all()
    with pytest.raises(AutoMixError, match="no result 'f1'"):
        EveryEvalEver("f1").read(path)


@pytest.mark.parametrize("lower", [None, False, True])
def test_errors_of_every_eval_ever_get_a_minus(tmp_path: Path, lower: bool | None) -> None:
    """The aggregate beside the lines says which scores are better; one without it: the larger."""
    path = tables.every_eval_ever(tmp_path)
    for m, name in enumerate(tables.MODELS):
        about = {"evaluation_id": f"e{m}", "evaluation_results": [
            {"evaluation_name": "gsm8k", "metric_config": {"lower_is_better": lower}}, None,
        ]}  # fmt: skip
        if lower is not None:
            (path / "gsm8k" / name / "u.json").write_text(json.dumps(about))
    held = EveryEvalEver().read(path)
    scores = held.scores[:, [held.models.index(name) for name in tables.MODELS]]
    np.testing.assert_array_equal(scores, -tables.SCORES if lower else tables.SCORES)
    assert any("gsm8k have a minus" in note for note in held.notes) is (lower is True)


def test_a_model_of_routerbench_without_a_price_is_named(tmp_path: Path) -> None:
    """It is no tier, and the reader knows."""
    path = tables.routerbench(tmp_path)
    frame = pd.read_csv(path)
    frame["mid"], frame["mid|model_response"] = 1, "x"
    frame.to_csv(path, index=False)
    held = RouterBench().read(path)
    assert held.models == tables.MODELS
    assert any("left out" in note and "mid" in note for note in held.notes)


def test_what_a_cache_held_is_of_the_prompt(tmp_path: Path) -> None:
    """Inspect leaves cached tokens out of input_tokens, older logs do not; dollars are costs."""
    for total, expected in ((None, 100.0), (120, 100.0), (60, 40.0)):
        folder = tmp_path / str(total)
        folder.mkdir()
        path = tables.inspect_ai(folder)
        for file in path.iterdir():
            log = json.loads(file.read_text())
            for sample in log["samples"]:
                (usage,) = sample["model_usage"].values()
                usage |= {"input_tokens": 40, "input_tokens_cache_read": 60, "total_cost": 0.25}
                usage |= {} if total is None else {"total_tokens": total}
            file.write_text(json.dumps(log))
        found = read("inspect_ai", path)
        assert found.prompt_tokens is not None
        assert found.costs is not None
        assert (found.prompt_tokens == expected).all()
        assert (found.costs == 0.25).all()
    del log["samples"][2]["model_usage"]
    file.write_text(json.dumps(log))
    assert read("inspect_ai", path).costs is None


def test_scores_as_inspect_writes_them(tmp_path: Path) -> None:
    """Truth values and numbers as texts count as in its metrics; NaN is its word for unscored."""
    path = tables.inspect_ai(tmp_path)
    for file in path.iterdir():
        log = json.loads(file.read_text())
        for sample, value in zip(
            log["samples"], ("yes", "No", "True", "0.25", float("nan"), False), strict=True
        ):
            sample["scores"]["match"]["value"] = value
        log["results"] = {"scores": [{"metrics": {"stderr": {"value": float("nan")}}}]}
        file.write_text(json.dumps(log))
    scores = read("inspect_ai", path).scores
    np.testing.assert_array_equal(scores[:, 0], [1, 0, 1, 0.25, np.nan, 0])


def test_unfinished_logs_are_refused(tmp_path: Path) -> None:
    """An evaluation of inspect that was cancelled is no result."""
    path = tables.inspect_ai(tmp_path)
    file = sorted(path.iterdir())[0]
    file.write_text(file.read_text().replace('"success"', '"cancelled"'))
    with pytest.raises(AutoMixError, match="ended as 'cancelled'"):
        read("inspect_ai", path)


def test_a_question_answered_twice_is_refused(tmp_path: Path) -> None:
    """A long table with two rows of a question and model counts neither."""
    path = tables.embedllm(tmp_path)
    path.write_text(path.read_text() + '5,1,0,1,"What, is 5?\nSay it.",large-70B,law\n')
    with pytest.raises(AutoMixError, match="'5' has 2 rows of the model 'large-70B'"):
        read("embedllm", path)


# --------------------------------------------------------------------------- to a chain


def held(**more: object) -> ModelOutcomes:
    """Outcomes of three models, one score missing; the dear model first."""
    scores = np.column_stack([tables.SCORES[:, 1], tables.SCORES[:, 0], tables.SCORES[:, 0]])
    scores[2, 1] = np.nan
    values = {
        "models": ("large-70B", "small-1B", "tiny-500M"),
        "ids": tuple(f"q{i}" for i in range(6)),
        "scores": scores,
        "tasks": ("a", "a", "a", "b", "b", "b"),
    }
    return ModelOutcomes(**{**values, **more})  # type: ignore[arg-type]


def test_chains_are_ordered_by_cost_and_say_it() -> None:
    """Cheapest first; models of equal cost keep their order, and are named."""
    chain, notes = chain_of(held(), Choice(missing="drop"))
    assert chain.names == ("tiny-500M", "small-1B", "large-70B")
    assert any("FLOPs of a token" in n and "large-70B 7e+10" in n for n in notes)
    prices = {"large-70B": 1, "small-1B": 1, "tiny-500M": 0.5}
    chain, notes = chain_of(held(), Choice(missing="drop", prices=prices))
    assert chain.names == ("tiny-500M", "large-70B", "small-1B")
    assert any("equal in cost, in the order given: large-70B and small-1B" in n for n in notes)


def test_missing_cells_of_public_tables_are_a_choice() -> None:
    """They are refused with their number, left out, or counted as 0."""
    with pytest.raises(AutoMixError, match=r"1 of 6 questions.*missing=drop.*missing=zero"):
        chain_of(held(), Choice())
    dropped = chain_of(held(), Choice(missing="drop"))[0].outcomes
    assert dropped.ids == ("q0", "q1", "q3", "q4", "q5")
    zero = chain_of(held(), Choice(missing="zero"))[0].outcomes
    assert zero.scores[2].tolist() == [0, 0, 0]
    two = chain_of(held(), Choice(models=("tiny-500M", "large-70B")))[0].outcomes
    assert len(two) == 6


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        ({"models": ("small-1b", "large-70B")}, "did you mean small-1B"),
        ({"models": ("small-1B",)}, "at least two different models"),
        ({"task": "c"}, "task=c is not in the table"),
        ({"missing": "skip"}, "refuse, drop, zero"),
        ({"prices": {"large-70B": 1}}, "the prices lack small-1B, tiny-500M"),
        ({"prices": {"large": 1}}, "large, which is no model"),
        ({"prices": 3}, "must be a mapping"),
    ],
)  # fmt: skip
def test_choices_are_checked(choice: dict[str, object], problem: str) -> None:
    """A model, data set or price that is not there is named, with those that are."""
    with pytest.raises(AutoMixError, match=problem):
        chain_of(held(), Choice(**{"missing": "drop", **choice}))  # type: ignore[arg-type]


def test_costs_are_found_in_a_stated_order() -> None:
    """Prices given, the table's own, listed prices of tokens, FLOPs by name; else an error."""
    tokens = (np.full((2, 2), 1e6), np.full((2, 2), 2e6))
    given = {"a": {"prompt": 1, "generated": 3}, "b": 50}
    assert answer_costs(["a", "b"], 2, None, tokens, given)[0].tolist() == [[7, 50]] * 2
    assert "own" in answer_costs(["a", "b"], 2, np.ones((2, 2)), tokens, None)[1]
    pytest.importorskip("genai_prices", reason="an extra, of Python 3.11 on")
    listed, said = answer_costs(["openai/gpt-4o-mini", "gpt-4o"], 2, None, tokens, None)
    assert "genai-prices" in said
    assert listed[0, 1] > 5 * listed[0, 0] > 0
    flops, said = answer_costs(["x-1B", "x-2B"], 2, None, tokens, None)
    assert flops[0].tolist() == [2 * 1e9 * 3e6, 2 * 2e9 * 3e6]
    with pytest.raises(AutoMixError, match=r"nothing tells what an answer of a costs.*prices="):
        answer_costs(["a", "x-2B"], 2, None, tokens, None)
    with pytest.raises(AutoMixError, match="priced by tokens"):
        answer_costs(["a", "b"], 2, None, None, given)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7e9),
        ("meta-llama/Llama-3.2-1B", 1e9),
        ("SmolLM2-135M", 135e6),
        ("google/gemma-2-2b-it", 2e9),
        ("EleutherAI/pythia-1.4b", 1.4e9),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", None),
        ("gpt-4-1106-preview", None),
        ("Qwen3-30B-A3B", 3e9),
    ],
)
def test_parameters_in_names(name: str, parameters: float | None) -> None:
    """A size is read where the name has exactly one; a mixture's is not guessed."""
    assert parameters_of(name) == parameters


# --------------------------------------------------------------------------- real rows


def test_real_rows_of_routerbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven models, one file to fit on and one to score on; empty scores are told."""
    train, test = (PUBLIC / "routerbench" / f"arc_challenge_{s}.csv" for s in ("train", "test"))
    if not train.is_file():
        pytest.skip("the table is not here")
    csv.field_size_limit(1 << 30)
    with test.open(encoding="utf-8", newline="") as lines:
        expected = list(csv.DictReader(lines))
    monkeypatch.chdir(tmp_path)
    args = ["replay", f"table={train}", f"test_table={test}", "meta_verifier=oracle"]
    assert main(args) == 2
    assert main([*args, "missing=drop", "output=out.json"]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    model = "gpt-4-1106-preview"
    kept = [r for r in expected if all(r[m] for m in found["input"]["models"])]
    assert found["n_test"] == len(kept) == 437
    alone = next(t for t in found["references"]["tiers"] if t["name"] == model)
    assert alone["performance"] == pytest.approx(np.mean([float(r[model]) for r in kept]))
    costs = [float(r[f"{model}|total_cost"]) for r in kept]
    assert alone["cost"] == pytest.approx(np.mean(costs))


def test_real_rows_of_routellm() -> None:
    """Every data set of a folder, without costs."""
    folder = PUBLIC / "routellm"
    if not folder.is_dir():
        pytest.skip("the tables are not here")
    found = read("auto", folder)
    assert len(set(found.tasks or ())) == 20
    assert found.models == ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
    assert any("genai-prices" in n and "a million" in n for n in chain_of(found, Choice())[1])
    chain, _ = chain_of(found, Choice(prices=dict(zip(found.models, (1, 50), strict=True))))
    means = chain.outcomes.scores.mean(axis=0)
    assert means[1] > means[0]
