"""Verifiers on real questions: what the SLM's confidence says of its score and of the LLM's help.

Runs of the embedded pair with record=full, a task and a verifier each, two worked examples
written for this project in front of every question; then one table of all runs found. Models are
asked once: the runs share a call store, and the command started again makes what is missing. Needs
AUTOMIX_DATA_DIR. The table's confidences with a calibrator are cross-fitted in five folds of
documents over the questions of both splits.

    python benchmarks/bench_verifiers.py run FOLDER --tasks coqa,cnli --verifiers auto,consistency
    python benchmarks/bench_verifiers.py table FOLDER --out results/.../verifiers.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.analysis.replay_score import score
from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.always import AlwaysSLM
from automix_eval.meta_verifiers.calibrated import FOLDS, Calibrated
from automix_eval.meta_verifiers.calibrators.by_rows import ByRows
from automix_eval.meta_verifiers.calibrators.logistic import Logistic
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.metrics.benefit import benefit_auroc, benefit_correlation, helps
from automix_eval.metrics.bootstrap import document_codes
from automix_eval.metrics.calibration import (
    Array,
    ConfidenceCells,
    are_right,
    auroc,
    calibration_error_of,
)
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.from_run import find_manifest
from automix_eval.records.outcomes import Outcomes
from automix_eval.records.schema import read_manifest, read_records, records_bytes, records_path

ROOT = Path(__file__).resolve().parent.parent
# questions of the train split and of the validation split, which Qasper and QuALITY have few of
QUESTIONS = {
    "coqa": (50, 100),
    "cnli": (34, 68),
    "quality": (40, 60),
    "narrativeqa": (40, 60),
    "qasper": (39, 51),
}
SETTINGS = {
    "consistency": [],
    "few_shot": ["verifier.max_tokens=64"],
    "few_shot_shown": ["verifier.demonstrations=calibration", "verifier.max_tokens=64"],
    "few_shot_scored": ["verifier.form=scored", "verifier.max_tokens=64"],
}


def write_tasks(folder: Path) -> None:
    """The five tasks behind two worked examples, which no window takes away."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(ROOT / "tasks"), include_defaults=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name in QUESTIONS:
        written = manager.load([f"{name}_demo"])["tasks"][f"{name}_demo"]
        rows = list(written.dataset["train"])
        first = rows[0]
        other = next(
            row
            for row in rows
            if row["context"] != first["context"] and row["answers"] != first["answers"]
        )
        examples = [f"{written.doc_to_text(row)} {row['answers'][0]}" for row in (first, other)]
        task = {
            "include": str(ROOT / "tasks" / name / f"{name}.yaml"),
            "task": f"{name}_two",
            "description": "\n\n".join(examples).replace("{", "(").replace("}", ")") + "\n\n",
        }
        (folder / f"{name}_two.yaml").write_text(json.dumps(task, indent=1))


def run(
    folder: Path,
    tasks: list[str],
    verifiers: list[str],
    window: int,
    samples: int,
    questions: list[int],
) -> None:
    """Make the runs that are missing, each a folder of its own."""
    write_tasks(folder / "tasks")
    for verifier in verifiers:
        for task in tasks:
            output = folder / task / verifier
            if (output / "seconds").exists():
                continue
            train, validation = questions or QUESTIONS[task]
            command = [sys.executable, "-m", "automix_eval", "run", f"tasks={task}_two"]
            command += [f"verifier={re.sub('_(scored|shown)$', '', verifier)}", f"output={output}"]
            command += [f"include_path={folder / 'tasks'}", f"store.path={folder / 'calls.sqlite'}"]
            command += [f"calibration.num_docs={train}", f"limit={validation}", "record=full"]
            command += [f"slm.max_length={window}", f"llm.max_length={window}", "batch_size=8"]
            command += ["gen_kwargs=max_gen_toks=24", "bootstrap_iters=0", "progress=false"]
            # a router that always looks at the confidence, so that every answer is verified
            command += ["meta_verifier=logistic"]
            begun = time.perf_counter()
            if verifier in SETTINGS:
                command += [f"verifier.num_samples={samples}", *SETTINGS[verifier]]
            subprocess.run(command, check=True)
            (output / "seconds").write_text(f"{time.perf_counter() - begun:.0f}\n")


class Keep(AlwaysSLM):
    """In the place of a router: keeps the out-of-fold confidences that one would be fitted on."""

    needs_verification = needs_fit = True

    def fit(self, outcomes: Outcomes) -> Keep:
        """Keep them."""
        self.outcomes = outcomes
        return self


def outcomes_of(folder: Path) -> Outcomes:
    """Both splits of a run as one table."""
    manifest = find_manifest(folder)
    described = read_manifest(manifest)
    records = list(read_records(records_path(manifest, described), records_bytes(described)))
    found = Outcomes.from_records(records, PaperCost())
    names = [f"{r.phase} {name}" for r, name in zip(records, found.ids or (), strict=True)]
    return replace(found, ids=tuple(names))


def ways(verifier: str, rows: Outcomes) -> Iterator[tuple[str, str, Outcomes, Any]]:
    """Name, calibrator and rows of each way to read a run, and what makes the calibrator."""
    alone = replace(rows, signals={})
    if verifier == "auto":
        yield "margin", "none", alone, None
        yield "margin", "logistic", alone, Logistic
        yield "token_profile", "logistic", rows, Logistic
        yield "auto", "auto", rows, ByRows
        yield "auto", "auto, benefit", rows, partial(ByRows, predicts="benefit")
    else:
        yield verifier, "none", alone, None
        if rows.signals:
            yield verifier, "logistic", rows, Logistic


def figures(
    rows: Outcomes, confidence: Array, calibrated_alone: Array, draws: int = 1000
) -> dict[str, Any]:
    """Figures of a confidence, with intervals from resampled documents.

    Args:
        rows: The outcomes.
        confidence: (n,) as a router is fitted on it.
        calibrated_alone: (n,) that of :func:`unseen`.
        draws: Bootstrap resamples.
    """
    codes = document_codes(rows.documents or ())
    known = ~np.isnan(confidence)
    benefit = rows.scores[:, -1] - rows.scores[:, 0]
    right = are_right(rows.scores)[:, 0]

    def of(at: Any) -> list[float]:
        held = at[known[at]]
        values = [
            auroc(confidence[held].tolist(), right[held].tolist()),
            benefit_auroc(confidence[held], benefit[held]),
            benefit_correlation(confidence[held], benefit[held]),
        ]
        return [math.nan if isinstance(value, Undefined) else value for value in values]

    members = [np.flatnonzero(codes == number) for number in range(codes.max() + 1)]
    rng = np.random.default_rng(0)
    drawn = np.array(
        [
            of(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
            for _ in range(draws)
        ]
    )
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0).tolist()
    found: dict[str, Any] = {"judged": known.mean()}
    names = ("auroc", "benefit_auroc", "benefit_correlation")
    for name, value, least, most in zip(names, of(np.arange(len(codes))), low, high, strict=True):
        found |= {name: value, f"{name}_low": least, f"{name}_high": most}
    cells = ConfidenceCells.of(calibrated_alone, known)
    count = np.arange(len(cells.confidence))[:, None] == cells.codes
    good, bad = count @ right.astype(float), count @ (~right).astype(float)
    found["brier"] = float(np.mean((calibrated_alone - right)[known] ** 2))
    found["calibration_error"] = float(calibration_error_of(good, bad, cells.confidence))
    return found


def calibrated(rows: Outcomes, make: Any) -> Array:
    """(n,) out-of-fold confidences of the first tier."""
    if make is None:
        return rows.confidences[:, 0]
    keep = Keep()
    Calibrated(keep, make).fit(rows)
    order = {name: i for i, name in enumerate(keep.outcomes.ids or ())}
    return keep.outcomes.confidences[[order[name] for name in rows.ids or ()], 0]


def unseen(rows: Outcomes, make: Any) -> Array:
    """(n,) confidences by calibrators that know nothing of a row's document, for Brier and ECE."""
    if make is None:
        return rows.confidences[:, 0]
    fold = document_codes(rows.documents or ()) % FOLDS
    found = np.empty(len(rows))
    for number in range(FOLDS):
        here = fold == number
        fitted = Calibrated(Keep(), make).fit(rows.take(np.flatnonzero(~here)))
        found[here] = fitted.judge_first(rows.take(np.flatnonzero(here)))
    return found


def within_folds(rows: Outcomes, make: Any) -> dict[str, float]:
    """AUROC over the pairs of questions of one fold, mean of ten partitions of the documents.

    Confidences of unlike folds come of unlike calibrators, and are not comparable to the digit; in
    a fold, one that rises with the margin ranks as the margin does.
    """
    right = are_right(rows.scores)[:, 0]
    helped = helps(rows.scores[:, -1] - rows.scores[:, 0])
    codes = document_codes(rows.documents or ())
    areas = []
    for seed in range(10):
        place = np.random.default_rng(seed).permutation(codes.max() + 1)[codes]
        moved = replace(rows, documents=tuple(f"{number:06d}" for number in place))
        confidence = calibrated(moved, make)
        pairs = np.zeros(2)
        won = np.zeros(2)
        for fold in range(FOLDS):
            here = place % FOLDS == fold
            for i, (value, label) in enumerate(((confidence, right), (-confidence, helped))):
                apart = np.subtract.outer(value[here & label], value[here & ~label])
                won[i] += (apart > 0).sum() + (apart == 0).sum() / 2
                pairs[i] += apart.size
        areas.append(won / pairs)
    own, benefit = np.mean(areas, axis=0).tolist()
    return {"auroc_within": own, "benefit_auroc_within": benefit}


def routed(rows: Outcomes, make: Any) -> dict[str, Any]:
    """The POMDP on this confidence in five folds: quality above a random choice of its cost."""
    fitted = CrossFitted(
        lambda: Calibrated(Pomdp(objective="gain"), make) if make else Pomdp(objective="gain")
    ).fit(rows)
    found = score(fitted, rows, 0, 1000)
    chance = found["references"]["random"]
    gain = None if chance is None else found["performance"] - chance["performance"]
    return {"cost": found["cost"], "quality": found["performance"], "gain": gain} | {
        "delta_ibc": found["delta_ibc"],
        "delta_ibc_interval": found["intervals"]["delta_ibc"],
    }


def table(folder: Path, tasks: list[str], out: Path) -> None:
    """One line a task, verifier and calibrator."""
    lines = []
    for task in tasks:
        for output in sorted((folder / task).glob("*/seconds")):
            rows = outcomes_of(output.parent)
            about = {"task": task, "questions": len(rows)}
            about |= {"documents": len(set(rows.documents or ()))}
            about |= {
                "slm_score": rows.scores[:, 0].mean(),
                "llm_score": rows.scores[:, -1].mean(),
                "slm_right": int(are_right(rows.scores)[:, 0].sum()),
                "llm_helps": int(helps(rows.scores[:, -1] - rows.scores[:, 0]).sum()),
            }
            for name, calibrator, used, make in ways(output.parent.name, rows):
                line = about | {"verifier": name, "calibrator": calibrator}
                line["verify_cost"] = float(used.verification_costs[:, 0].mean())
                line |= figures(used, calibrated(used, make), unseen(used, make))
                line |= within_folds(used, make)
                line |= routed(used, make)
                lines.append({k: rounded(v) for k, v in line.items()})
                print(lines[-1], flush=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def rounded(value: Any) -> Any:
    """Numbers with four decimals."""
    if isinstance(value, (list, tuple)):
        return " to ".join(f"{v:.3f}" for v in value)
    return round(float(value), 4) if isinstance(value, (float, np.floating)) else value


def main() -> None:
    """Run or tabulate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["run", "table"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--tasks", default=",".join(QUESTIONS))
    parser.add_argument("--verifiers", default="auto,margin,token_profile")
    parser.add_argument("--window", type=int, default=768, help="of both models, in tokens")
    parser.add_argument("--samples", type=int, default=4, help="of a sampling verifier")
    parser.add_argument(
        "--questions", type=int, nargs=2, help="of the train and of the validation split"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.folder is None:
        print("verifiers  no folder of runs is given: nothing is measured")
        return
    tasks = given.tasks.split(",")
    if given.what == "run":
        verifiers = given.verifiers.split(",")
        questions = given.questions or []
        run(given.folder.resolve(), tasks, verifiers, given.window, given.samples, questions)
    else:
        table(given.folder, tasks, given.out)


if __name__ == "__main__":
    main()
