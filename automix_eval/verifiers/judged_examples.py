"""Demonstrations of a verification taken from answers that the task has scored."""

from __future__ import annotations

import random
from collections.abc import Sequence

from automix_eval.metrics.calibration import are_right
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Question
from automix_eval.verifiers.prompt import Example, unverifiable

#: Answers that are shown, as many as the paper's; half of them right.
NUMBER = 4
_OF_EACH = NUMBER // 2

#: A question, one tier's answer and its score.
Scored = tuple[Question, Answer, float]
#: The same with whether the answer is right.
Judged = tuple[Question, Answer, bool]


def choose(scored: Sequence[Scored], seed: int) -> list[Judged]:
    """Two right and two wrong answers, in the paper's order: right, wrong, wrong, right.

    They are on different contexts where there are so many, and on short ones, since every
    verification reads them; the seed breaks ties.

    Args:
        scored: Those to choose from; none is taken that cannot be verified.
        seed: Of the choice.

    Raises:
        AutoMixError: There are not two of each.
    """
    marks = are_right([score for _, _, score in scored]).tolist()
    judged = [(q, a, mark) for (q, a, _), mark in zip(scored, marks, strict=True)]
    usable = [one for one in judged if not unverifiable(one[0], one[1])]
    random.Random(seed).shuffle(usable)
    usable.sort(key=lambda one: len(one[0].context))
    picked: dict[bool, list[Judged]] = {True: [], False: []}
    seen: set[str] = set()
    for new in (True, False):  # a context twice only where there is no other
        for one in usable:
            own, context = picked[one[2]], one[0].context
            if len(own) < _OF_EACH and one not in own and not (new and context in seen):
                own.append(one)
                seen.add(context)
    right, wrong = picked[True], picked[False]
    if min(len(right), len(wrong)) < _OF_EACH:
        raise AutoMixError(
            f"verifier.demonstrations=calibration needs {_OF_EACH} right and {_OF_EACH} wrong "
            f"answers that can be verified, and the calibration has {len(right)} and {len(wrong)}: "
            "raise calibration.num_docs, or take verifier.demonstrations=fixed"
        )
    return [right[0], *wrong, right[1]]


def example(question: Question, answer: Answer, right: bool) -> Example:
    """A demonstration of its verdict; nobody has written a reasoning."""
    verdict = "Correct" if right else "Incorrect"
    return question.context, question.question, answer.text.strip(), "", verdict
