"""few_shot with demonstrations from the calibration, in runs of scripted models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import CALLS, SCRIPTS, gold_answers, knows, read_run, run_harness, scripted_args

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.records.policies import load, make
from automix_eval.safety.errors import AutoMixError

TASK = "coqa_demo"


def args_of(tmp_path: Path, store: str = "calls", **more: Any) -> dict[str, Any]:
    """Model arguments of a cascade that shows its verifier answers of the calibration."""
    gold = gold_answers(TASK)
    SCRIPTS["small"], SCRIPTS["large"] = knows(gold, 0.5), knows(gold, 0.9)
    args = scripted_args(meta_verifier="threshold", **more)
    shown = {"verifier.demonstrations": "calibration", "store.path": str(tmp_path / store)}
    return {**args, **shown}


def verifications() -> set[str]:
    """The prompts of verification that were asked since the last look."""
    found = {prompt for script, _, prompt in CALLS if "AI Generated Answer" in prompt}
    CALLS.clear()
    return found


def answers_counted(manifest: dict[str, Any]) -> tuple[int, int]:
    """Calls made and stored of the first tier's answers in the calibration."""
    where = {"phase": "calibration", "tier": 0, "role": "answer"}
    (found,) = (c for c in manifest["calls"] if where.items() <= c.items())
    return found["made"], found["stored"]


def test_they_are_fitted_with_the_policy_and_used_with_it(tmp_path: Path) -> None:
    """Two right and two wrong, none evaluated or fitted on; resumed and loaded the same ones."""
    CALLS.clear()
    run_harness([TASK], args_of(tmp_path), tmp_path / "first", limit=6)
    prompts = verifications()
    manifest, rows = read_run(tmp_path / "first")
    (file,) = (tmp_path / "first").rglob("automix_policy_*.json")
    fitted = load(file)["fitted_on"]
    assert manifest["verifier"]["demonstrations"] == "calibration"
    (shown,) = fitted["demonstrations"]
    assert [verdict for *_, verdict in shown] == ["Correct", "Incorrect", "Incorrect", "Correct"]
    asked = {question for _, question, *_ in shown}
    assert asked.isdisjoint(r.question for r in rows)
    assert all(all(example[2] in prompt for example in shown) for prompt in prompts)
    fit = [r.doc_id for r in rows if r.phase == "calibration"]
    assert fitted["num_questions"] == len(fit)
    assert len(set(fitted["doc_ids"]) - set(fit)) == 4
    assert answers_counted(manifest) == (len(fit) + 4, 0)

    run_harness([TASK], args_of(tmp_path), tmp_path / "again", limit=6)
    assert CALLS == []
    assert answers_counted(read_run(tmp_path / "again")[0]) == (0, len(fit) + 4)

    given = args_of(tmp_path, "other", **{"meta_verifier.policy": str(file)})
    run_harness([TASK], given, tmp_path / "loaded", limit=6)
    assert 0 < len(found := verifications()) == 6
    assert found <= prompts


def test_what_cannot_be_shown_is_refused_before_a_verification(tmp_path: Path) -> None:
    """A router that learns nothing or too little, no demonstrations, a member of an ensemble."""
    CALLS.clear()
    with pytest.raises(AutoMixError, match="learns nothing"):
        run_harness([TASK], {**args_of(tmp_path), "meta_verifier": "self_consistency"}, limit=2)
    with pytest.raises(AutoMixError, match=r"raise calibration\.num_docs to 14"):
        run_harness([TASK], args_of(tmp_path, **{"calibration.num_docs": 12}), limit=2)
    assert CALLS == []
    run_harness([TASK], args_of(tmp_path), tmp_path / "first", limit=2)
    (file,) = (tmp_path / "first").rglob("automix_policy_*.json")
    held = load(file)
    router, fitted = dict(held["meta_verifier"]), dict(held["fitted_on"])
    name = router.pop("name")
    for wrong in ([], [[["a context", "a question"]]], [fitted["demonstrations"][0]] * 2):
        changed = make(name, router, held["learned"], {**fitted, "demonstrations": wrong})
        (tmp_path / "wrong.json").write_text(json.dumps(changed))
        args = args_of(tmp_path, **{"meta_verifier.policy": str(tmp_path / "wrong.json")})
        with pytest.raises(AutoMixError, match="does not hold the demonstrations"):
            run_harness([TASK], args, limit=2)
    member = {"option": "few_shot", "demonstrations": "calibration"}
    with pytest.raises(AutoMixError, match="takes demonstrations=fixed"):
        parts.make_verifier(config.build({"verifier": "ensemble", "verifier.members": [member]}))
