"""The verification prompt: entailment of the answer by the context (arXiv 2310.12963, section 2).

The four demonstrations are this project's own, in the paper's order: Correct, Incorrect,
Incorrect, Correct. The instruction stands before the demonstrations as well as in each block, so
that no shortening can lose it.
"""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.backends.prompts import Fitted, Parts, fit
from automix_eval.types import Answer, Ask, Outcome, Question

INSTRUCTION = (
    "Decide whether the AI Generated Answer is right, using nothing but the context and the "
    "question. Give your reasoning first, then choose Correct or Incorrect."
)
DECISION = "Verification Decision: The AI generated answer is"
SEPARATOR = "---"

#: Context, question, answer, reasoning (which may be empty) and verdict.
Example = tuple[str, str, str, str, str]
EXAMPLES: tuple[Example, ...] = (
    (
        "The ferry to Orrin leaves the north pier at seven in the morning and comes back at "
        "nightfall. In winter it sails on Mondays only, because ice closes the inner channel.",
        "On which day does the ferry sail in winter?",
        "Monday",
        "The context says that in winter the ferry sails on Mondays only. The answer names "
        "that day.",
        "Correct",
    ),
    (
        "Ines repaired the clock of the town hall in three evenings. The hands came from her "
        "grandfather's workshop; the new spring was a gift of the baker, who had missed the "
        "bells.",
        "Who gave the new spring?",
        "Her grandfather",
        "The hands came from the grandfather's workshop, but the spring was a gift of the "
        "baker. The answer names the wrong person.",
        "Incorrect",
    ),
    (
        "Basalt cools from lava that is poor in silica. It is dark and heavy, and where it "
        "cools slowly it cracks into columns with mostly six sides.",
        "What colour is basalt?",
        "Six sides",
        "The question asks for a colour and the context calls basalt dark. The answer speaks "
        "of the shape of the columns.",
        "Incorrect",
    ),
    (
        "The choir of Vell had eleven members until the spring, when two of them moved away. "
        "Nobody joined before the concert in June.",
        "How many members sang in June?",
        "Nine",
        "Eleven members less the two who moved away leaves nine, and nobody joined before "
        "June. The answer agrees.",
        "Correct",
    ),
)


def _block(context: str, question: str, answer: str) -> str:
    shown = f"Context: {context}\n\n" if context else ""
    return (
        f"{shown}Question: {question}\n\nAI Generated Answer: {answer}\n\n"
        f"Instruction: {INSTRUCTION}\n\nEvaluation:"
    )


def demonstrations(
    with_reasoning: bool = True, examples: Sequence[Example] = EXAMPLES
) -> tuple[str, ...]:
    """The demonstration blocks, each ending in the separator."""
    return tuple(
        _block(context, question, answer)
        + (f" {reasoning}" if with_reasoning and reasoning else "")
        + f" {DECISION} {verdict}.\n\n{SEPARATOR}\n\n"
        for context, question, answer, reasoning, verdict in examples
    )


def unverifiable(question: Question, answer: Answer) -> Outcome | None:
    """Why an answer cannot be verified against its context, None if it can."""
    if not answer.text.strip():
        return "empty_answer"
    if not question.question.strip():
        return "empty_question"
    if question.grounded and not question.context.strip():
        return "empty_context"
    return None


def build(
    question: Question,
    answer: Answer,
    ask: Ask,
    reserve: int,
    decide_now: bool = False,
    said: str = "",
    examples: Sequence[Example] = EXAMPLES,
) -> Fitted:
    """The verification prompt of one answer, in the tier's form, fitted into its window.

    Args:
        question: Question with its context.
        answer: The answer to judge.
        ask: The tier, for its window and tokenizer.
        reserve: Tokens to leave free for what the model generates.
        decide_now: End with the decision phrase instead of asking for the reasoning.
        said: Reasoning to stand before the decision phrase; without any the demonstrations that
            decide show none either.
        examples: What is demonstrated.
    """
    body = _block(question.context, question.question, answer.text.strip())
    if decide_now:
        body += f" {said} {DECISION}" if said else f" {DECISION}"
    shown = demonstrations(bool(said) or not decide_now, examples)
    parts = Parts("", shown, body, question.context)
    window = ask.max_length
    fitted = fit(
        parts,
        None if window is None else window - reserve,
        lambda text: ask.count_tokens(ask.render(text)),
    )
    return Fitted(ask.render(fitted.text), fitted.dropped_demonstrations, fitted.cut_context_tokens)
