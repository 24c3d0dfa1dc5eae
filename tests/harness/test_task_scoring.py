"""How routing enters a task's metrics, and how the harness reports it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable, make_table

from automix_eval.harness.tasks.scoring import (
    count_decisions,
    free_form,
    leave_one_out,
    mean_of_defined,
    with_routing,
)
from automix_eval.metrics.answers import exact_match, token_f1
from automix_eval.paths import tasks_dir


class Routed(str):
    """An answer of the composite model."""

    routing: Mapping[str, Any]

    def __new__(cls, text: str, **routing: Any) -> Routed:
        """Attach a routing to a text."""
        answer = super().__new__(cls, text)
        answer.routing = MappingProxyType(
            {"decision": "keep", "confidence": 0.5, "cost": 2.0, "escalation": 0.0} | routing
        )
        return answer


class Scripted(LM):  # type: ignore[misc]
    """Answers every question with the first word of its prompt; routes every other one."""

    def __init__(self, *, routed: bool) -> None:
        super().__init__()
        self.routed = routed

    def generate_until(self, requests: list[Instance], **_: Any) -> list[str]:
        """Answer, with a routing if asked for."""
        answers: list[str] = []
        for i, request in enumerate(requests):
            word = request.args[0].split()[0]
            if self.routed and i % 2:
                word = Routed(word, decision="escalate", confidence=0.25, cost=52.0, escalation=1.0)
            elif self.routed:
                word = Routed(word, confidence=None)
            answers.append(word)
        return answers

    def loglikelihood(self, requests: list[Instance], **_: Any) -> list[tuple[float, bool]]:
        """Not asked for by these tasks."""
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Instance], **_: Any) -> list[float]:
        """Not asked for by these tasks."""
        raise NotImplementedError


@pytest.mark.parametrize("routed", [False, True])
def test_the_harness_reports_routing_only_where_there_is_one(
    routed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Results print, are JSON, and hold the routing per sample and aggregated, or not at all."""
    manager = TaskManager(include_path=str(tasks_dir()), include_defaults=False)
    with caplog.at_level(logging.WARNING):
        results = simple_evaluate(
            model=Scripted(routed=routed),
            tasks=["automix_demo"],
            task_manager=manager,
            limit=4,
            log_samples=True,
            bootstrap_iters=10,
        )
    assert "No aggregation function" not in caplog.text
    assert "not consistent" not in caplog.text
    table = make_table(results)
    assert "coqa_demo (sample, not a benchmark)" in table
    assert ("escalation_rate" in table) is routed
    json.dumps(results, default=handle_non_serializable, allow_nan=False)
    for name in ("coqa", "quality", "qasper", "narrativeqa", "cnli"):
        metrics = results["results"][f"{name}_demo"]
        sample = results["samples"][f"{name}_demo"][1]
        assert ("decision" in sample) is routed
        if routed:
            assert sample["decision"] == "escalate"
            assert metrics["escalation_rate,none"] == 0.5
            assert metrics["cost,none"] == 27.0
            assert metrics["confidence,none"] == 0.25
            assert metrics["decision,none"] == "escalate 2, keep 2"
        else:
            keys = {key.split(",")[0] for key in metrics}
            assert not keys & {"escalation_rate", "cost", "confidence", "decision"}


def test_a_plain_answer_gets_no_routing() -> None:
    """A run of an ordinary model shows only the task's own metrics."""
    assert with_routing({"f1": 0.5}, "text") == {"f1": 0.5}


@given(
    st.none() | st.floats(0, 1) | st.just(math.nan),
    st.none() | st.floats(0, 100),
    st.sampled_from([0.0, 1.0]),
)
def test_routing_fields_are_json_and_leave_the_metrics_alone(
    confidence: float | None, cost: float | None, escalation: float
) -> None:
    """Every field is strict JSON, an unpriced answer has no cost, and nothing is mutated."""
    metrics = {"f1": 0.5}
    answer = Routed("text", confidence=confidence, cost=cost, escalation=escalation)
    fields = with_routing(metrics, answer)
    assert metrics == {"f1": 0.5}
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    assert fields["f1"] == 0.5
    assert fields["escalation_rate"] == escalation
    assert fields["decision"] == "keep"
    assert ("cost" in fields) == (cost is not None)
    undefined = confidence is None or math.isnan(confidence)
    assert fields["confidence"] == (None if undefined else confidence)


@given(st.lists(st.none() | st.floats(0, 1) | st.just(math.nan)))
def test_undefined_confidences_do_not_move_the_mean(values: list[float | None]) -> None:
    """The mean is that of the defined values, and None without any."""
    defined = [v for v in values if v is not None and not math.isnan(v)]
    mean = mean_of_defined(values)
    assert mean == mean_of_defined(defined)
    assert (mean is None) == (not defined)
    if mean is not None:
        assert min(defined) - 1e-12 <= mean <= max(defined) + 1e-12


@given(st.lists(st.sampled_from(["keep", "to llm", "to mid"]), min_size=1))
def test_decision_counts_do_not_depend_on_the_order(decisions: list[str]) -> None:
    """Counts add up, are sorted, and are the same for any order of the answers."""
    shown = count_decisions(decisions)
    counts = [int(part.rsplit(" ", 1)[1]) for part in shown.split(", ")]
    assert sum(counts) == len(decisions)
    assert counts == sorted(counts, reverse=True)
    assert shown == count_decisions(decisions[::-1])


def test_an_answer_of_an_article_alone_scores_as_each_task_s_own_script_does() -> None:
    """Nothing is left of "A": one by CoQA's, none by those of Qasper and SQuAD 1.1."""
    assert free_form({"answers": ["A."]}, ["A"])["f1"] == 0.0
    assert leave_one_out({"references": ["A."]}, ["A"])["f1"] == 1.0


def test_coqa_leaves_one_reference_out() -> None:
    """By hand: each person's answer is left out once, the best of the others taken."""
    doc = {"references": ["a red kite", "red kite", "the kite"]}
    found = leave_one_out(doc, ["red kite"])
    # without the first and without the third "red kite" is there, without the second as well
    assert found == {"f1": 1.0, "exact_match": 1.0, "f1_max": 1.0}
    found = leave_one_out({"references": ["white", "black"]}, ["white"])
    assert found == {"f1": 0.5, "exact_match": 0.5, "f1_max": 1.0}
    assert leave_one_out({"references": ["white", "white"]}, ["white"])["f1"] == 1.0
    assert leave_one_out({"references": ["white"]}, ["white"])["f1"] == 1.0
    with pytest.raises(ValueError, match="without a reference"):
        leave_one_out({"references": []}, ["white"])


words = st.lists(st.sampled_from(["red", "kite", "white"]), max_size=4).map(" ".join)


@given(words, st.lists(words, min_size=1, max_size=4))
def test_coqa_s_scores_are_means_of_the_best_of_the_others(
    answer: str, references: list[str]
) -> None:
    """Of several references each is left out once; one alone is all there is."""
    others = [references[:i] + references[i + 1 :] for i in range(len(references))]
    folds = others if len(references) > 1 else [references]
    assert leave_one_out({"references": references}, [answer]) == {
        "f1": math.fsum(token_f1(answer, o) for o in folds) / len(folds),
        "exact_match": math.fsum(exact_match(answer, o) for o in folds) / len(folds),
        "f1_max": token_f1(answer, references),
    }
