"""A task's scores as the harness means them: which metric, which filter, in which direction.

The harness scores the answers to a document with every filter of its task, and sums each metric up
with an aggregation of its own. Routing needs one number a question: the main metric under one
filter, larger is better. Metrics without such a number (bleu, chrf, mcc) exist for many questions
together only.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

from automix_eval.metrics.nested_sample import nested_sample
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import did_you_mean, printable

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

log = logging.getLogger(__name__)

_NUMBERS = (0.0, 0.0, 1.0, 0.25)  # to see what an aggregation makes of numbers
_NUMERIC = (float, int, Real, Decimal)  # the common ones first: Real is asked slowly
_TRIED = 8  # documents that an empty answer is scored on


@dataclasses.dataclass(frozen=True, slots=True)
class TaskScore:
    """What the task's own code says of one answer.

    Attributes:
        score: The main metric, larger is better; None where the answer has no number.
        metrics: Every metric that is a number.
        corpus: What metrics of many questions together are computed from, by name.
        why: Why there is no score, where the task has one for other answers.
    """

    score: float | None
    metrics: Mapping[str, float]
    corpus: Mapping[str, Any]
    why: str = ""


class TaskMetrics:
    """Scores answers by the code of one task.

    Args:
        name: The task's name.
        task: The harness's task object.
        metric: Name of the main metric; None takes the first number in the order of metric_list.
        filter_name: Name of the filter; None takes the harness's own: the task's first.

    Raises:
        AutoMixError: The task has no such filter; names those that it has.
    """

    def __init__(
        self, name: str, task: Any, metric: str | None = None, filter_name: str | None = None
    ) -> None:
        self.name = name
        self.task = task
        self.filter = _filter(name, task, filter_name)
        self.main = metric
        self.skipped: tuple[str, ...] = ()
        self.partial: tuple[str, ...] = ()
        self._named = metric is not None
        self._known: tuple[str, ...] = ()
        self._made: dict[str, float | None] = {}
        self._means: dict[str, bool] = {}
        self.is_corpus = False

    @property
    def is_bypassed(self) -> bool:
        """Whether the task scores nothing, by the harness's metric ``bypass``."""
        return "bypass" in getattr(self.task, "_metric_fn_list", {})

    @property
    def higher_is_better(self) -> bool:
        """The direction of the main metric, as the task states it."""
        stated = self.task.higher_is_better() or {}
        return stated.get(self.main) is not False

    def notes(self) -> list[str]:
        """What the reader of the run must know of the main metric."""
        found = []
        if self.main is not None and not self.higher_is_better:
            found.append(
                f"lower values of {self.main} are better: scores and quality are minus {self.main}"
            )
        if self.skipped:
            found.append(
                f"quality is {self.main}: {', '.join(self.skipped)} before it in metric_list "
                f"exist{'' if self.skipped[1:] else 's'} for all questions together only"
            )
        if self.partial:
            found.append(
                f"quality is {self.main}: {', '.join(self.partial)} before it in metric_list is "
                f"scored for some of the questions only, and metric={self.partial[0]} takes it"
            )
        if self.main is not None and not self.is_corpus and not self._is_mean(self.main):
            found.append(
                f"quality is the mean of {self.main}, which the task sums up otherwise: its own "
                "figure stands under the metrics of all questions together"
            )
        return found

    def filtered(self, instances: Sequence[Instance], responses: Sequence[Any]) -> list[Any]:
        """What the filter makes of the responses to the requests of one document.

        Args:
            instances: The document's requests.
            responses: For each the list of its responses, one a repeat.
        """
        copies = [
            dataclasses.replace(i, resps=list(r), filtered_resps={})
            for i, r in zip(instances, responses, strict=True)
        ]
        self.filter.apply(copies)
        return [c.filtered_resps[self.filter.name] for c in copies]

    def found(self, instances: Sequence[Instance], responses: Sequence[Any]) -> Mapping[str, Any]:
        """Every metric of the document, as the task gives it."""
        doc = instances[0].doc
        result: Mapping[str, Any] = self.task.process_results(
            doc, self.filtered(instances, responses)
        )
        return result

    def score(self, instances: Sequence[Instance], responses: Sequence[Any]) -> TaskScore:
        """The scores of the responses to one document.

        Raises:
            AutoMixError: The main metric is none of the task's.
        """
        if self.is_bypassed:
            return TaskScore(None, {}, {})
        found = self.found(instances, responses)
        if not self._known:
            self._choose([found])
        numbers = {k: number(v) for k, v in found.items()}
        metrics = {str(k): n for k, n in numbers.items() if n is not None}
        corpus = {
            str(k): found[k]
            for k, n in numbers.items()
            if (is_corpus(found[k]) if n is None else not self._is_mean(k))
        }
        if self.is_corpus or self.main is None:
            return TaskScore(None, metrics, corpus)
        if self.main not in metrics:
            said = printable(repr(found[self.main]) if self.main in found else "absent", 80)
            return TaskScore(None, metrics, corpus, f"the metric {self.main} is {said}")
        value = metrics[self.main]
        return TaskScore(value if self.higher_is_better else -value, metrics, corpus)

    def try_out(self, instances: Sequence[Instance], repeats: int) -> None:
        """Choose the main metric by empty answers to some documents, before any model is asked.

        The documents are drawn from all that the task evaluates, so that every process of a run
        chooses alike. A task whose code does not stand an empty answer is left to the first real
        one.

        Args:
            instances: The requests of one document, of whichever process.
            repeats: Responses to each.

        Raises:
            AutoMixError: The metric asked for is none of the task's, or has no number.
        """
        if self.is_bypassed or self._known:
            return
        empty: Any = "" if instances[0].request_type == "generate_until" else (-1.0, False)
        tried = []
        try:
            docs = self.task.eval_docs
            each = len(instances) // self._choices(instances[0].doc)
            for i in nested_sample(len(docs), _TRIED, 0):
                number = each * self._choices(docs[i])
                copies = [dataclasses.replace(instances[0], doc=docs[i])] * number
                if found := self.found(copies, [[empty] * repeats] * number):
                    tried.append(found)
        except AutoMixError:
            raise
        except Exception as err:  # noqa: BLE001 - the task's own code, on an answer we made up
            log.debug("%s: an empty answer cannot be scored: %s", self.name, err)
        if tried:
            self._choose(tried)

    def _choices(self, doc: Mapping[str, Any]) -> int:
        """Choices of a document; 1 where it has none."""
        has = self.task.OUTPUT_TYPE == "multiple_choice" and self.task.config.doc_to_choice
        return len(self.task.doc_to_choice(doc)) if has else 1

    def aggregate(self, metric: str, values: Sequence[Any]) -> float | None:
        """A metric of many documents, by the task's own aggregation; None if it is no number."""
        function = (self.task.aggregation() or {}).get(metric)
        return None if function is None else number(function(list(values)))

    def _is_mean(self, metric: str) -> bool:
        """Whether the task sums a number up by its mean."""
        if metric not in self._means:
            made = self._of_numbers(metric)
            mean = math.fsum(_NUMBERS) / len(_NUMBERS)
            self._means[metric] = made is None or math.isclose(made, mean, rel_tol=1e-6)
        return self._means[metric]

    def _of_numbers(self, metric: str) -> float | None:
        """What the task's aggregation makes of some numbers; NaN if it takes none."""
        if metric not in self._made:
            try:
                self._made[metric] = self.aggregate(metric, _NUMBERS)
            except Exception as err:  # noqa: BLE001 - the task's own code, on numbers we made up
                log.debug("%s: %s of numbers: %s", self.name, metric, err)
                self._made[metric] = math.nan
        return self._made[metric]

    def _is_number(self, metric: str, value: Any) -> bool:
        """Whether a metric has a number a question, as far as the value of one question says."""
        if value is None:  # of this question: what is made of others' decides
            made = self._of_numbers(metric)
            return made is None or math.isfinite(made)
        return not (isinstance(value, str) or is_corpus(value))

    def _choose(self, tried: Sequence[Mapping[str, Any]]) -> None:
        """Set the main metric, in the order of metric_list, one of all questions before others.

        Args:
            tried: What the task finds in some documents.
        """
        found = {name: value for one in reversed(tried) for name, value in one.items()}
        listed = [_metric_name(m) for m in getattr(self.task.config, "metric_list", None) or []]
        order = list(dict.fromkeys([*(m for m in listed if m in found), *map(str, found)]))
        self._known = tuple(order)
        numbers = [m for m in order if self._is_number(m, found[m])]
        if self._named:
            if self.main not in found:
                raise AutoMixError(
                    f"task {self.name} has no metric {self.main!r}"
                    f"{did_you_mean(str(self.main), order)} It has {', '.join(order) or 'none'}"
                )
            self.is_corpus = self.main not in numbers
            return
        self.is_corpus = not numbers
        whole = [m for m in numbers if all(m in one for one in tried)]
        best = [*whole, *numbers, *order]
        self.main = best[0] if best else None
        if numbers:
            before = order[: order.index(best[0])]
            self.skipped = tuple(m for m in before if m not in numbers)
            self.partial = tuple(m for m in before if m in numbers)


def number(value: Any) -> float | None:
    """A finite number of Python's, numpy's or torch's as a float; None for anything else."""
    if not isinstance(value, _NUMERIC) and callable(item := getattr(value, "item", None)):
        try:
            value = item()
        except (TypeError, ValueError, RuntimeError):  # several numbers
            return None
    if not isinstance(value, _NUMERIC):
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def is_corpus(value: Any) -> bool:
    """Whether a metric's value is what an aggregation over many documents reads, and no number."""
    if value is None or isinstance(value, (str, bytes, *_NUMERIC)):
        return False  # no number here, but one elsewhere: None, NaN
    return number(value) is None


def _metric_name(entry: Mapping[str, Any]) -> str:
    name = entry.get("metric")
    return str(getattr(name, "__name__", name))


def _filter(name: str, task: Any, wanted: str | None) -> Any:
    # of two that share a name the harness keeps what the last one gives
    filters = {str(f.name): f for f in getattr(task, "_filters", [])}
    if wanted is None:
        return next(iter(filters.values()))
    if wanted in filters:
        return filters[wanted]
    raise AutoMixError(
        f"task {name} has no filter {wanted!r}{did_you_mean(wanted, filters)} "
        f"It has {', '.join(filters)}"
    )
