"""Calls in the harness's own batches, for what cannot share the start of its prompt.

That works for every model that the harness's ``hf`` class loads. Where padding would change a
model's numbers, each prompt has a batch of its own.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval.models.utils import normalize_gen_kwargs

from automix_eval.backends.hf.metered_lm import MeteredHFLM
from automix_eval.backends.hook import Hook
from automix_eval.backends.shared_prefix.probe import tolerance
from automix_eval.types import GenerateRequest, Generation, Scores

#: Tokens of the longer prompt by which padding is tried first, and that are generated behind it.
_PADDED, _STEPS = 24, 3


def generate(
    lm: MeteredHFLM,
    ask: Callable[[Sequence[tuple[Any, Any]], Hook], None],
    requests: Sequence[GenerateRequest],
    on_result: Callable[[int, Generation], None],
    token_probs: bool,
    is_alone: Callable[[int], bool],
) -> None:
    """Generate through the harness's ``generate_until``; samples are drawn by seed.

    Args:
        lm: The model.
        ask: Sends pairs of prompt and arguments to it, results to the hook.
        requests: What to generate.
        on_result: Receives each result.
        token_probs: Whether greedy generations carry their tokens' probabilities.
        is_alone: Whether a prompt and answer of so many tokens must have a batch of their own.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        given = normalize_gen_kwargs(dict(request.generation), lm.max_gen_toks)
        size = len(lm.tok_encode(request.prompt)) + int(given["max_gen_toks"])
        key = [dict(request.generation), request.seed is not None, is_alone(size)]
        groups[json.dumps(key, sort_keys=True)].append(i)
    for group, indices in groups.items():
        arguments, sampled, alone = json.loads(group)
        if sampled:
            # drawn by a logits processor, so that no batch disturbs another's sample
            lm.temperature = float(arguments.pop("temperature", 1.0) or 1.0)
            arguments["do_sample"] = False
            arguments.pop("num_beams", None)  # a sample is one row, drawn token by token
        lm.expect(
            [requests[i].prompt for i in indices],
            [requests[i].seed for i in indices] if sampled else None,
            token_probs,
        )
        argument_key = json.dumps(arguments, sort_keys=True)

        def deliver(_: int, text: str, __: float, indices: list[int] = indices) -> None:
            row = lm.finished.popleft()
            on_result(
                indices[row.index],
                Generation(
                    text,
                    row.prompt_tokens,
                    row.generated_tokens,
                    row.seconds,
                    row.logprobs,
                    row.margins,
                    cached_tokens=0,
                    events=row.events,
                ),
            )

        pairs = [(requests[i].prompt, dict(arguments)) for i in indices]
        with lm.one_by_one(alone):
            ask(pairs, Hook([(prompt, argument_key) for prompt, _ in pairs], deliver))


def score(
    lm: MeteredHFLM,
    requests: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]],
    batch_size: int,
    on_result: Callable[[int, Scores], None],
    is_alone: Callable[[int], bool],
) -> None:
    """Score continuations through the harness's log-likelihoods.

    Args:
        lm: The model.
        requests: Tokens of prompts, each with those of its continuations.
        batch_size: Most prompts in a batch.
        on_result: Receives the natural-log probabilities of each prompt's continuations.
        is_alone: Whether a prompt and answer of so many tokens must have a batch of their own.
    """
    alone = [is_alone(len(prompt) + max(map(len, more))) for prompt, more in requests]
    order = sorted(range(len(requests)), key=lambda i: (alone[i], -len(requests[i][0])))
    while order:
        size = 1 if alone[order[0]] else batch_size
        batch = [i for i in order[:size] if alone[i] == alone[order[0]]]
        order = order[len(batch) :]
        flat = [(None, [*requests[i][0]], [*c]) for i in batch for c in requests[i][1]]
        begun = time.perf_counter()
        with lm.one_by_one(alone[batch[0]]):
            found = iter(lm._loglikelihood_tokens(flat, disable_tqdm=True))
        seconds = (time.perf_counter() - begun) / len(batch)
        for i in batch:
            prompt, continuations = requests[i]
            mine = list(itertools.islice(found, len(continuations)))
            logprobs, greedy = tuple(p for p, _ in mine), tuple(g for _, g in mine)
            on_result(i, Scores(logprobs, greedy, len(prompt), seconds, 0))


class Padding:
    """How long prompts of unlike lengths may be for padding to change no number of theirs.

    Some models take padding for text, or their angles depend on the longest prompt; others choose
    what they attend to from some thousand tokens on, and padding is chosen too. So it is tried with
    made-up prompts as long as those that are asked, twice as long each time.

    Args:
        lm: The model.
        never: Whether its numbers are known to depend on the company.

    Attributes:
        safe: Tokens up to which it was tried and changed nothing.
        bad: The fewest tokens at which it changed something; None where it has not.
    """

    def __init__(self, lm: MeteredHFLM, never: bool) -> None:
        self._lm = lm
        self.safe = 0
        self.bad = 0 if never or not _pads_safely(lm, _PADDED, _PADDED // 3) else None

    def allows(self, tokens: int) -> bool:
        """Whether a prompt and answer of so many tokens may be padded."""
        while self.bad is None and self.safe < tokens:
            size = min(max(2 * self.safe, _PADDED), int(self._lm.max_length) - _STEPS)
            if size <= self.safe:  # beyond the window it is an error, wherever it is read
                break
            if size > _PADDED and not _pads_safely(self._lm, size, size - size // 4):
                self.bad = size
            else:
                self.safe = size
        return self.bad is None or tokens <= self.safe


@torch.inference_mode()
def _pads_safely(lm: MeteredHFLM, longest: int, shorter: int) -> bool:
    """Whether padding to the length of one prompt changes no number of a shorter one."""
    vocabulary = min(int(lm.vocab_size), 1000)
    long = [(7 * i * i + 11) % vocabulary for i in range(longest)]
    short = long[3 : 3 + shorter]
    pad = lm.tokenizer.pad_token_id

    def begun(rows: list[list[int]]) -> torch.Tensor:
        width = max(map(len, rows))
        ids = [[pad] * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        made = lm.model.generate(
            input_ids=torch.tensor(ids, device=lm.device),
            attention_mask=torch.tensor(mask, device=lm.device),
            max_new_tokens=_STEPS,
            min_new_tokens=_STEPS,
            do_sample=False,
            # the same tokens whatever rounding does, so that what is remembered is compared too
            prefix_allowed_tokens_fn=lambda *_: long[:1],
            pad_token_id=pad,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return torch.stack([step[-1].float() for step in made.logits])

    def read(rows: list[list[int]]) -> torch.Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=lm.device)
        return lm._model_call(ids)[-1, len(rows[-1]) - 1].float()

    allowed = tolerance(lm.model.dtype, lm.mixed_precision_dtype)
    ways = [begun, read] if lm.backend == "causal" else [begun]
    try:
        return all(
            bool((way([long, short]) - (own := way([short]))).norm() <= allowed * own.norm())
            for way in ways
        )
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError):
        return False  # alone it works, or the call itself will say why not
