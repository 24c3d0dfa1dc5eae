"""What reading shared prompt starts once saves, against the harness's own ``hf`` model.

Both sides run in turn in one process, with the same weights in bfloat16. Beside the seconds stand
the prompt tokens that were computed, which do not depend on the machine. Rows on real questions
need AUTOMIX_DATA_DIR and are left out without it.

    python benchmarks/bench_prefix.py --runs 3 --rows prompt,document,cascade,memory
    python benchmarks/bench_prefix.py --rows cascade --verifiers 'few_shot form=scored,p_true'
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import simple_parse_args_string

from automix_eval.backends.embedded import ensure_model
from automix_eval.backends.hf.backend import HFBackend
from automix_eval.backends.prompts import Parts
from automix_eval.cascade.route import Chain, route
from automix_eval.cascade.store import CallStore
from automix_eval.cascade.tier import Tier
from automix_eval.config import compose, parts
from automix_eval.meta_verifiers.self_consistency import SelfConsistency
from automix_eval.types import Answer, GenerateRequest, Prompt, Question, ScoreRequest, Verifier
from automix_eval.verifiers import prompt as verification_prompt
from automix_eval.verifiers.p_true import PTrue

ROOT = Path(__file__).resolve().parent.parent
SLM, LLM = "smollm2-135m-instruct", "gemma3-270m"
CHOICES = (" Correct", " Incorrect")
WINDOW = 4096
CPU_TIME = "--cpu-time" in sys.argv


def tier_of(name: str, **settings: Any) -> HFBackend:
    """An embedded model as a tier."""
    settings = {"batch_size": 8, **settings}
    return HFBackend(embedded=name, max_length=WINDOW, device="cpu", **settings)


def harness_of(name: str, batch_size: int) -> HFLM:
    """The same model as the harness runs it."""
    folder = str(ensure_model(name))
    return HFLM(pretrained=folder, device="cpu", batch_size=batch_size, max_length=WINDOW)


def text_of(words: int, seed: int) -> str:
    """A document of this project's own."""
    draw = random.Random(seed)
    parts = ["The ferry", "A clerk", "The harbour master", "Her brother", "The old mill"]
    acts = ["left", "found", "sold", "repaired", "forgot"]
    things = ["the brass bell", "a letter", "two nets", "the northern pier", "a map of the bay"]
    times = ["in winter", "at noon", "before the storm", "on Monday", "last year"]
    sentences: list[str] = []
    while sum(len(s.split()) for s in sentences) < words:
        sentences.append(" ".join(draw.choice(c) for c in (parts, acts, things, times)) + ".")
    return " ".join(sentences)


class Room:
    """What a verification prompt asks of a tier while it is built."""

    max_length = None

    def count_tokens(self, text: str) -> int:
        """Anything: there is no window."""
        return len(text)

    def render(self, prompt: str) -> str:
        """No chat template."""
        return prompt


def verification(context: str, decide_now: bool) -> str:
    """A verification prompt of the project's own verifier."""
    question = Question("bench", 0, Prompt(""), context, "What did the clerk repair?")
    room: Any = Room()
    answer = Answer(0, "the brass bell")
    return verification_prompt.build(question, answer, room, 0, decide_now).text


def by_harness(lm: HFLM, method: str, pairs: Sequence[tuple[str, Any]]) -> list[Any]:
    """Requests through the harness's own model."""
    requests = [Instance(method, {}, pair, i, ("bench", i, 1)) for i, pair in enumerate(pairs)]
    return list(getattr(lm, method)(requests, disable_tqdm=True))


def forget(backend: HFBackend) -> None:
    """A tier that knows nothing yet, nor the tokens of a text: the harness encodes in each run."""
    if reader := backend._sharing():
        reader.cache.clear()
    backend._metered().__dict__.pop("token_memory", None)


def by_tier(backend: HFBackend, requests: Sequence[Any], method: str = "generate") -> list[Any]:
    """Requests through the tier, which knows nothing yet."""
    forget(backend)
    found: dict[int, Any] = {}
    getattr(backend, method)(requests, found.__setitem__)
    return [found[i] for i in range(len(requests))]


def computed(results: Sequence[Any]) -> int:
    """Prompt tokens that were computed."""
    return sum(r.prompt_tokens - r.cached_tokens for r in results)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    clock = time.process_time if CPU_TIME else time.perf_counter
    begun = clock()
    result = work()
    return clock() - begun, result


def line(name: str, theirs: list[float], ours: list[float], tokens: tuple[int, int]) -> None:
    """One row: medians, the median of the ratios run by run, and tokens."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    print(
        f"{name:<44} {statistics.median(theirs):>9.2f} {statistics.median(ours):>9.2f} "
        f"{statistics.median(ratios):>7.2f} {tokens[0]:>9} {tokens[1]:>9} "
        f"{tokens[0] / tokens[1]:>7.2f}",
        flush=True,
    )


def bench_prompt(runs: int) -> None:
    """Eight samples, and P(Correct), of one verification prompt of about 2000 tokens."""
    lm, backend = harness_of(SLM, 8), tier_of(SLM)
    context = text_of(1050, 0)
    sampling = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 30, "until": []}
    long, short = verification(context, False), verification(context, True)
    seconds: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    for _ in range(runs):
        seconds["a"].append(
            timed(lambda: by_harness(lm, "generate_until", [(long, sampling)] * 8))[0]
        )
        requests = [GenerateRequest(long, sampling, seed) for seed in range(8)]
        took, samples = timed(lambda r=requests: by_tier(backend, r))
        seconds["b"].append(took)
        took, scores = timed(lambda: by_tier(backend, [ScoreRequest(short, CHOICES)], "score"))
        seconds["c"].append(took)
    size = len(lm.tok_encode(long))
    name = f"8 samples of {size} tokens, 30 new"
    line(name, seconds["a"], seconds["b"], (8 * size, computed(samples)))
    line("p_true of the same prompt", seconds["a"], seconds["c"], (8 * size, computed(scores)))


def task_of(name: str) -> Any:
    """A task of this project."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(ROOT / "tasks"), include_defaults=False)
    return manager.load([name])["tasks"][name]


def products_in_float32() -> None:
    """Products of bfloat16 in float32, rounded once: what a unit for bfloat16 does.

    A CPU without one takes several times as long for the same, in an order of its own.
    """
    linear, full = torch.nn.functional.linear, {}

    def rounded(x: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
        if x.dtype != torch.bfloat16:
            return linear(x, weight, bias)
        if weight.data_ptr() not in full:
            full[weight.data_ptr()] = weight.float()
        offset = None if bias is None else bias.float()
        return linear(x.float(), full[weight.data_ptr()], offset).bfloat16()

    torch.nn.functional.linear = rounded  # type: ignore[assignment]


def bench_answers(number: int, tasks: Sequence[str], models: Sequence[str]) -> None:
    """Greedy answers in bfloat16 that another batch size changes, and that sharing changes.

    Both against the harness with batches of one, on the questions with the shortest contexts, of
    which the first 150 words are read. Scores are means of the task's metric.
    """
    print(
        f"\n{f'{number} answers, bfloat16':<28} {'changed by':>10} {'changed by':>10} "
        f"{'score':>8} {'score':>8} {'score':>8}"
    )
    print(f"{'':<28} {'batch 8':>10} {'sharing':>10} {'batch 1':>8} {'batch 8':>8} {'sharing':>8}")
    total = [0, 0, 0]
    for model in models:
        lm, backend = harness_of(model, 1), tier_of(model)
        for name in tasks:
            task = task_of(name)
            docs = list(task.dataset[task.config.test_split or task.config.validation_split])
            docs = sorted(docs, key=lambda doc: (len(doc["context"]), doc["context"]))[:number]
            docs = [doc | {"context": " ".join(doc["context"].split()[:150])} for doc in docs]
            generation = {"do_sample": False, "until": ["\n"], "max_gen_toks": 32}
            prompts = [task.doc_to_text(doc) for doc in docs]
            runs = []
            for lm.batch_size_per_gpu in (1, 8):
                pairs = [(prompt, dict(generation)) for prompt in prompts]
                runs.append(by_harness(lm, "generate_until", pairs))
            requests = [GenerateRequest(prompt, generation) for prompt in prompts]
            runs.append([made.text for made in by_tier(backend, requests)])
            alone = runs[0]
            changed = [sum(a != b for a, b in zip(alone, run, strict=True)) for run in runs[1:]]
            metric = task.config.metadata["automix"]["metric"]
            scores = [
                statistics.fmean(
                    float(task.process_results(doc, [text])[metric])
                    for doc, text in zip(docs, run, strict=True)
                )
                for run in runs
            ]
            total = [n + m for n, m in zip(total, (len(docs), *changed), strict=True)]
            print(
                f"{f'{name}, {model[:8]}, {len(docs)}':<28} {changed[0] / len(docs):>10.1%} "
                f"{changed[1] / len(docs):>10.1%} " + " ".join(f"{s:>8.4f}" for s in scores),
                flush=True,
            )
    print(f"{'all':<28} {total[1] / total[0]:>10.1%} {total[2] / total[0]:>10.1%}  of {total[0]}")


def real_questions(task: str, number: int) -> list[Question]:
    """The first questions of a task, whole documents at a time."""
    loaded = task_of(task)
    return [
        Question(
            task,
            i,
            Prompt(loaded.doc_to_text(doc)),
            doc["context"],
            doc["question"],
            generation={"do_sample": False, "until": ["\n"], "max_gen_toks": 100},
        )
        for i, doc in zip(range(number), loaded.dataset["validation"], strict=False)
    ]


def split(question: Question) -> Parts:
    """The parts of an answer prompt."""
    return Parts("", (), question.prompt.text, question.context)


def bench_document(runs: int) -> None:
    """The questions of one contract, answered and verified."""
    rows = real_questions("cnli", 204)
    documents: dict[str, list[Question]] = {}
    for row in rows:
        documents.setdefault(row.context, []).append(row)
    lm, backend = harness_of(SLM, 1), tier_of(SLM, batch_size=17)
    size = lambda text: len(lm.tok_encode(text))  # noqa: E731
    questions = min(documents.values(), key=lambda d: abs(size(d[0].context) - 1510))
    seconds: dict[str, list[float]] = {"theirs": [], "ours": [], "apart": []}
    tokens: dict[str, int] = {}

    def theirs() -> int:
        total = 0
        for q in questions:
            (text,) = by_harness(lm, "generate_until", [(q.prompt.text, dict(q.generation))])
            body = verification_prompt._block(q.context, q.question, text.strip() or "-")
            prompt = "".join(verification_prompt.demonstrations(False)) + body
            prompt += f" {verification_prompt.DECISION}"
            by_harness(lm, "loglikelihood", [(prompt, c) for c in CHOICES])
            total += size(q.prompt.text) + 2 * size(prompt)
        return total

    def ours(backend: HFBackend) -> int:
        forget(backend)
        with tempfile.TemporaryDirectory() as folder, CallStore(Path(folder) / "s") as store:
            tier = Tier(0, "slm", backend, store, progress=False)
            answers = tier.answer(questions, split)
            given = [Answer(0, a.text.strip() or "-", a.calls) for a in answers]
            verified = PTrue().verify(questions, given, tier)
            calls = [c for x in (*answers, *verified) for c in x.calls]
            return sum((c.prompt_tokens or 0) - (c.cached_tokens or 0) for c in calls)

    plain = tier_of(SLM, batch_size=17, shared_answers=False)
    for _ in range(runs):
        for name, work in (
            ("theirs", theirs),
            ("ours", lambda: ours(backend)),
            ("apart", lambda: ours(plain)),
        ):
            took, tokens[name] = timed(work)
            seconds[name].append(took)
            print(f"  {name}: {took:.0f} s, {tokens[name]} prompt tokens", flush=True)
    name = f"{len(questions)} questions of a {size(questions[0].context)}-token contract"
    line(name, seconds["theirs"], seconds["ours"], (tokens["theirs"], tokens["ours"]))
    line(
        "  the same, shared_answers=false",
        seconds["theirs"],
        seconds["apart"],
        (tokens["theirs"], tokens["apart"]),
    )


def rates(backend: HFBackend, length: int) -> tuple[float, float]:
    """Tokens a second of reading one prompt of a length, and of eight samples side by side."""
    lm = backend._metered()
    ids = torch.tensor([lm.tok_encode(text_of(length, 3))[:length]])
    with torch.inference_mode():
        read = min(timed(lambda: lm.model(input_ids=ids, logits_to_keep=1))[0] for _ in range(2))
    sampling = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 40, "until": []}
    prompt = text_of(length // 2, 4)
    one = [GenerateRequest(prompt, sampling | {"max_gen_toks": 1}, s) for s in range(8)]
    many = [GenerateRequest(prompt, sampling, s) for s in range(8)]
    took, results = timed(lambda: by_tier(backend, many))
    alone = timed(lambda: by_tier(backend, one))[0]
    generated = sum(r.generated_tokens for r in results) - 8
    return ids.shape[1] / read, generated / (took - alone)


class Recorder:
    """Notes every prompt a backend is asked."""

    def __init__(self, backend: HFBackend) -> None:
        self._backend = backend
        self._texts: list[str] = []
        for method in ("generate", "score"):
            setattr(backend, method, self._noting(getattr(backend, method)))

    def _noting(self, call: Any) -> Any:
        def noting(requests: Sequence[Any], *args: Any, **kwargs: Any) -> None:
            self._texts += [r.prompt for r in requests]
            call(requests, *args, **kwargs)

        return noting

    def trie(self) -> list[tuple[int, int]]:
        """The distinct prompts, each with its length and the tokens that no other had before it."""
        lm = self._backend._metered()
        order = sorted({tuple(lm.tok_encode(text)) for text in set(self._texts)})
        found, before = [], ()
        for prompt in order:
            common = next(
                (i for i, (a, b) in enumerate(zip(before, prompt, strict=False)) if a != b),
                min(len(before), len(prompt)),
            )
            found.append((len(prompt), len(prompt) - common))
            before = prompt
        return found


def typical(trie: Sequence[tuple[int, int]]) -> int:
    """Mean length of the prompts that the distinct tokens stand in.

    A token costs more to read the longer its prompt, in proportion; at the rate of this length all
    of them take what they take each at the rate of its own.
    """
    total = sum(new for _, new in trie)
    return round(sum(length * new for length, new in trie) / total) if total else 500


def verifier_of(text: str) -> Verifier:
    """An option of hydra_conf/verifier with its own values: ``few_shot form=scored``."""
    option, *values = text.split()
    own = {f"verifier.{k}": v for k, v in simple_parse_args_string(",".join(values)).items()}
    return parts.make_verifier(compose.build({"verifier": option, **own}))


def bench_cascade(number: int, task: str, verifier: Verifier) -> dict[str, float]:
    """A whole run against the time of its distinct prompt tokens and its generated tokens."""
    questions = real_questions(task, number)
    backends = [tier_of(SLM), tier_of(LLM)]
    for backend in backends:
        rates(backend, 100)  # loaded and warm before anything is timed
        forget(backend)
    recorders = [Recorder(b) for b in backends]
    with tempfile.TemporaryDirectory() as folder, CallStore(Path(folder) / "s") as store:
        tiers = [
            Tier(i, n, b, store, progress=False)
            for i, (n, b) in enumerate(zip(("slm", "llm"), backends, strict=True))
        ]
        chain = Chain(tiers, verifier, split, lambda _: None)
        took, done = timed(lambda: route(questions, chain, SelfConsistency()))
    calls = [
        c
        for rows in done
        for r in rows
        for c in (*r.answer.calls, *(r.verification.calls if r.verification else ()))
    ]
    ideal, distinct = 0.0, 0
    for tier, (backend, recorder) in enumerate(zip(backends, recorders, strict=True)):
        del backend.generate, backend.score  # what follows is no part of the run
        trie = recorder.trie()
        if not trie:
            continue
        read, write = rates(backend, typical(trie))
        fresh = sum(new for _, new in trie)
        ideal += fresh / read
        ideal += sum(c.generated_tokens or 0 for c in calls if c.tier == tier) / write
        distinct += fresh
    return {
        "seconds": took,
        "ideal": ideal,
        "ratio": took / ideal,
        "prompt": sum(c.prompt_tokens or 0 for c in calls),
        "computed": sum((c.prompt_tokens or 0) - (c.cached_tokens or 0) for c in calls),
        "distinct": distinct,
        "generated": sum(c.generated_tokens or 0 for c in calls),
        "escalated": sum(len(rows) > 1 for rows in done),
    }


def bench_cascades(given: argparse.Namespace) -> None:
    """A line a verifier and task, as soon as it is measured; those of ``--kept`` are not again."""
    kept = Path(given.kept) if given.kept else None
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    measured = {json.dumps(about): found for about, found in map(json.loads, lines)}
    print(f"\n{f'whole run, {given.questions} questions':<52}", end="")
    print(" seconds    ideal  ratio   prompt computed distinct generated escalated")
    for text in given.verifiers.split(","):
        for task in given.tasks.split(","):
            for number in range(given.runs):
                about = json.dumps([text, task, given.questions, number])
                if about not in measured:
                    found = bench_cascade(given.questions, task, verifier_of(text))
                    measured[about] = found
                    if kept:
                        with kept.open("a") as file:
                            file.write(f"[{about}, {json.dumps(found)}]\n")
                seconds, ideal, ratio, *tokens = measured[about].values()
                print(
                    f"{f'{task}, {text}':<52} {seconds:>7.1f} {ideal:>8.1f} {ratio:>6.2f} "
                    + " ".join(f"{n:>8}" for n in tokens),
                    flush=True,
                )


def bench_memory() -> None:
    """Peak memory of verifying many documents, with and without the cache, in fresh processes."""
    peaks = {}
    for megabytes in ("0", "default"):
        command = [sys.executable, __file__, "--peak", megabytes]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[megabytes] = int(done.stdout.split()[-1]) / 1024
    ratio = peaks["default"] / peaks["0"]
    print(
        f"\npeak memory, MB: without cache {peaks['0']:.0f}, default {peaks['default']:.0f}, "
        f"ratio {ratio:.2f}"
    )


def peak(megabytes: str) -> None:
    """Fill the cache with documents and print the peak resident size in kB."""
    backend = tier_of(SLM, **({} if megabytes == "default" else {"prefix_cache_mb": 0}))
    requests = [
        ScoreRequest(verification(text_of(1050, seed // 2), True) + " " * (seed % 2), CHOICES)
        for seed in range(20)
    ]
    found: dict[int, Any] = {}
    backend.score(requests, found.__setitem__)
    sampling = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 30, "until": []}
    by_tier(backend, [GenerateRequest(requests[0].prompt, sampling, seed) for seed in range(8)])
    # getrusage would count what the process that started this one held
    status = Path("/proc/self/status").read_text()
    print(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]


def main() -> None:
    """Run the rows asked for and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", default="prompt,document,cascade,memory")
    parser.add_argument(
        "--answers", default="coqa,quality,qasper,narrativeqa,cnli", help="tasks of rows=answers"
    )
    parser.add_argument("--models", default=f"{SLM},{LLM}", help="of rows=answers")
    parser.add_argument(
        "--products-in-float32", action="store_true", help="for a CPU that has none in bfloat16"
    )
    parser.add_argument("--tasks", default="coqa,narrativeqa", help="of the whole run")
    parser.add_argument("--questions", type=int, default=40, help="of the whole run")
    parser.add_argument(
        "--verifiers",
        default="margin,auto,consistency,few_shot form=scored max_tokens=64,p_true",
        help="of the whole run: options of hydra_conf/verifier, each with own values",
    )
    parser.add_argument("--kept", help="file of whole runs that were measured, and will be")
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is not idle")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.peak)
        return
    if arguments.products_in_float32:
        products_in_float32()
    rows = arguments.rows.split(",")
    clock = "CPU" if CPU_TIME else "wall"
    real = bool(os.environ.get("AUTOMIX_DATA_DIR"))
    threads = torch.get_num_threads()
    print(f"{threads} threads, bfloat16, {arguments.runs} runs in turn, {clock} seconds")
    print(
        f"{'':<44} {'harness s':>9} {'shared s':>9} {'ratio':>7} {'tokens':>9} {'tokens':>9} "
        f"{'ratio':>7}"
    )
    if "prompt" in rows:
        bench_prompt(arguments.runs)
    if "document" in rows and real:
        bench_document(arguments.runs)
    if "cascade" in rows and real:
        bench_cascades(arguments)
    if "memory" in rows:
        bench_memory()
    if "answers" in rows:
        models = arguments.models.split(",")
        bench_answers(arguments.questions, arguments.answers.split(","), models)


if __name__ == "__main__":
    main()
