"""``automix-eval run``: one configuration with --model_args, sweeps that resume, refusals."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock
from scripted import CALLS, SCRIPTS, gold_answers, knows

from automix_eval.commands.main import main
from automix_eval.commands.sweep import notes as jobs
from automix_eval.config import command_line as hydra_app
from automix_eval.config import compose as config
from automix_eval.config import plugins
from automix_eval.config.command_line import RUN, HydraJob, read
from automix_eval.config.command_line import run as launch
from automix_eval.config.run_settings import model_args
from automix_eval.paths import hydra_conf_dir
from automix_eval.report import pictures

CASCADE = [
    "slm=harness", "slm.lm=scripted", "slm.script=small",
    "llm=harness", "llm.lm=scripted", "llm.script=large",
    "verifier=few_shot", "verifier.num_samples=2", "progress=false",
    "tasks=coqa_demo", "limit=6", "bootstrap_iters=0",
]  # fmt: skip


@pytest.fixture(autouse=True)
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scripted models, and a working folder of the test's own."""
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def drawn() -> None:
    """The reports of a test's sweeps have pictures."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a third of a sweep: a test whose point it is asks for ``drawn``."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(pictures, "save_all", lambda *_: [])


def table(root: Path) -> list[dict[str, str]]:
    """The combined table of a sweep."""
    with (root / "jobs.csv").open() as lines:
        return list(csv.DictReader(lines))


def arguments_of(overrides: Sequence[str]) -> dict[str, object]:
    """The arguments of --model_args that a command line gives."""
    app, found = RUN, []

    def do(job: HydraJob) -> None:
        assert job.composed is not None
        found.append(model_args(job.composed, job.choices, job.given))

    assert launch(app, read(app, overrides), do, {"hydra.run.dir": Path("h")}) == 0
    (args,) = found
    return dict(args)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {}),
        (CASCADE[:9], {
            "slm": "harness", "slm.lm": "scripted", "slm.script": "small",
            "llm": "harness", "llm.lm": "scripted", "llm.script": "large",
            "verifier": "few_shot", "verifier.num_samples": 2, "progress": False}),
        (["objective=budget", "mean_cost=20", "cost.tiers=[1,10]"],
         {"objective": "budget", "mean_cost": 20, "cost.tiers": [1, 10]}),
        (["tiers=[smollm2,{option: hf,pretrained: a/b},gemma3]", "cost.tiers=[1,5,50]"],
         {"tiers": ["smollm2", {"option": "hf", "pretrained": "a/b"}, "gemma3"],
          "cost.tiers": [1, 5, 50]}),
        (["calibrator=none", "verifier=ensemble"], {"calibrator": "none", "verifier": "ensemble"}),
        (["slm.dtype=bfloat16", "slm.trust_remote_code=true"],
         {"slm.dtype": "bfloat16", "slm.trust_remote_code": True}),
        (["store.path=s.db", "budget.max_cost=3", "meta_verifier.bandwidth=0.2", "record=full"],
         {"store.path": "s.db", "budget.max_cost": 3, "meta_verifier.bandwidth": 0.2,
          "record": "full"}),
    ],
)  # fmt: skip
def test_run_and_model_args_compose_equal_configurations(
    overrides: list[str], expected: dict[str, object]
) -> None:
    """The same names and values give the same cascade, from either command line."""
    args = arguments_of(overrides)
    assert args == expected
    assert config.build(args) == config.build(expected)


def test_a_run_writes_its_files_and_ends_with_the_report(capsys: pytest.CaptureFixture) -> None:
    """Results, samples, records and policy lie in the folder that is named."""
    assert main(["run", *CASCADE, "meta_verifier=threshold", "output=out"]) == 0
    kinds = {p.name.split("_")[0] for p in Path("out").iterdir()}
    assert kinds == {"results", "samples", "automix"}
    out, err = capsys.readouterr()
    assert "Task coqa_demo" in out
    assert "Live policy" in out
    assert len(err.splitlines()) <= 25
    assert "INFO" not in err


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_a_sweep_over_routers_makes_no_call_after_the_first_job(
    capsys: pytest.CaptureFixture,
) -> None:
    """Routers, costs and objectives are swept on the calls of the first job."""
    line = ["run", "-m", *CASCADE, "num_fewshot=1", "meta_verifier=threshold,pomdp", "output=s"]
    assert main([*line, "cost.tiers=[1,50],[1,10]"]) == 0
    rows = table(Path("s"))
    assert len(rows) == 4
    assert int(rows[0]["calls_made"]) == len(CALLS) > 0
    assert [r["calls_made"] for r in rows[1:]] == ["0"] * 3
    assert {r["calls_stored"] != "0" for r in rows[1:]} == {True}
    assert (Path("s") / "report" / "report.html").is_file()
    assert len(list((Path("s") / "report").rglob("*.png"))) > 0
    assert "made by job 0" in capsys.readouterr().out


@pytest.mark.slow
def test_seeds_of_a_sweep_are_pooled_and_its_runs_named() -> None:
    """Jobs that differ in their seed alone are one row; a verdict says of which run it is."""
    assert (
        main(["run", "-m", *CASCADE, "meta_verifier=threshold,greedy", "seed=0,1", "output=s"]) == 0
    )
    report = json.loads((Path("s") / "report" / "report.json").read_text())
    live = [m for b in report["boards"] for m in b["methods"] if m["kind"] == "live"]
    assert sorted((m["seeds"], len(m["runs"])) for m in live) == [([0, 1], 2)] * 2
    text = (Path("s") / "report" / "report.txt").read_text()
    assert text.count("(meta_verifier=threshold)\n") == text.count("(meta_verifier=greedy)\n") == 2


@pytest.mark.slow
def test_a_sweep_started_again_runs_only_what_is_missing(capsys: pytest.CaptureFixture) -> None:
    """A finished job is not run again; one that was killed, or failed, is."""
    line = ["run", "-m", *CASCADE, "meta_verifier=threshold,greedy", "output=s"]
    assert main(line) == 0
    notes = sorted(Path("s").glob("*/job.json"))
    killed = json.loads(notes[0].read_text())
    notes[0].write_text(json.dumps({**killed, "status": "running", "run": ""}))
    assert "Custom kwargs" not in capsys.readouterr().err  # nothing amiss, by harness/console.py
    assert main(line) == 0
    said = capsys.readouterr().out
    assert said.count("finished before") == 1
    assert sorted(len(list(n.parent.glob("run_*"))) for n in notes) == [1, 2]
    assert len(table(Path("s"))) == 2


@pytest.mark.slow
def test_a_change_of_code_or_data_is_said_and_runs_the_jobs_again(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed sweep never mixes figures of two codes or two data sets."""
    line = ["run", "-m", *CASCADE, "meta_verifier=threshold,greedy", "output=s"]
    assert main(line) == 0
    monkeypatch.setattr(jobs, "_data", lambda *a: "other data", raising=True)
    monkeypatch.setattr(jobs, "forget", lambda: None)
    capsys.readouterr()
    assert main(line) == 0
    assert capsys.readouterr().out.count("the tasks or their data changed since it ran") == 2


def test_a_failed_job_stops_no_other_and_is_listed(capsys: pytest.CaptureFixture) -> None:
    """The sweep ends with the reasons and exit code 2; the table has the others."""
    line = ["run", "-m", *CASCADE, "meta_verifier=oracle,greedy,threshold", "output=s"]
    assert main(line) == 2
    said = capsys.readouterr()
    assert "1 of 3 jobs failed" in said.err
    assert [r["status"] for r in table(Path("s"))] == ["failed", "finished", "finished"]


def test_a_job_that_was_lost_is_listed_with_a_reason(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher whose process ends in the middle leaves a note without one."""
    monkeypatch.setattr("automix_eval.commands.sweep.run.SweepJob._failed", lambda *_: None)
    sweep = ["meta_verifier=greedy", "calibration.num_docs=5,16", "output=s"]
    assert main(["run", "-m", *CASCADE, *sweep]) == 2
    assert "job 0 failed: it did not end" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("launcher", "remedy"),
    [
        ("processes", "pip install 'automix-eval[joblib]'"),
        ("slurm", "pip install 'automix-eval[submitit]'"),
        ("ray_here", "pip install 'automix-eval[ray]' in an environment without constraints.txt"),
    ],
)
def test_a_launcher_that_is_not_installed_names_its_extra(
    launcher: str, remedy: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs, with what stands in the way of installing it."""
    extra = plugins.PLUGINS[launcher][1]
    monkeypatch.setitem(plugins.PLUGINS, launcher, ("hydra_absent_launcher", extra))
    assert main(["run", "-m", *CASCADE, f"hydra/launcher={launcher}", "seed=0,1"]) == 2
    assert remedy in capsys.readouterr().err
    assert CALLS == []


@pytest.mark.parametrize("launcher", ["processes", "slurm", "submitit_here", "ray_here"])
def test_without_any_plugin_of_hydra_a_launcher_names_its_extra(
    launcher: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain install lacks even the package that plugins share; the error is the same one line."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "hydra_plugins"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hydra_plugins", None)
    assert main(["run", "-m", *CASCADE, f"hydra/launcher={launcher}", "seed=0,1"]) == 2
    error = capsys.readouterr().err
    assert f"pip install 'automix-eval[{plugins.PLUGINS[launcher][1]}]'" in error
    assert error.count("\n") == 1


def test_flags_that_exclude_each_other_are_refused(capsys: pytest.CaptureFixture) -> None:
    """A sweep has no one configuration to show."""
    assert main(["run", "-m", *CASCADE, "seed=0,1", "--cfg", "job"]) == 2
    error = capsys.readouterr().err
    assert "-m and --cfg exclude each other" in error
    assert error.count("\n") == 1


def test_two_sweeps_into_one_folder_are_refused(capsys: pytest.CaptureFixture) -> None:
    """The second sweep touches nothing."""
    Path("s").mkdir()
    with FileLock(Path("s") / ".lock"):
        assert main(["run", "-m", *CASCADE, "seed=0,1", "output=s"]) == 2
    assert "another sweep is writing to s" in capsys.readouterr().err
    assert not list(Path("s").glob("*/job.json"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("verifer=margin", "did you mean verifier"),
        ("verifier=margn", "did you mean margin"),
        ("hydra/launcher=slrm", "did you mean slurm"),
        ("num_fewshots=2", "did you mean num_fewshot"),
        ("metadata.split_seed=1", "metadata={split_seed:...}"),
        ("num_fewshot=two", "num_fewshot='two'"),
        ("num_fewshot=-1", "num_fewshot=-1"),
        ("limit=0", "limit=0"),
        ("optimize=luck", "optimize='luck'"),
        ("tasks=[]", "tasks is not set"),
        ("tasks=[coqa_dem]", "did you mean coqa_demo"),
        ("calibration.num_docs=0", "calibration.num_docs=0"),
        ("verifier._target_=os.system", "may not be set"),
        ("slm.extra={_target_: os.system}", "may not be set"),
        ("budget=5", "budget holds several values"),
        ("cost.tiers={slm: 1, llm: 50}", "cost.tiers is a list"),
        ("tasks={coqa_demo: 1}", "tasks is a list"),
        ("meta_verifier=oracle", "a live run does not know"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_loaded(
    override: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    """One line, exit code 2, and no call."""
    assert main(["run", *CASCADE, override, "output=out"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert CALLS == []


@pytest.mark.parametrize("command", [["run"], ["fit"], ["run", "-m", "seed=0,1"]])
def test_a_file_in_the_place_of_the_output_is_one_line(
    command: list[str], capsys: pytest.CaptureFixture
) -> None:
    """Of a single run and of a sweep, and of a folder below it."""
    Path("taken").write_text("notes")
    for output in ("taken", "taken/below"):
        assert main([*command, *CASCADE, f"output={output}"]) == 2
        said = capsys.readouterr().err
        assert said.endswith(f"output={output} can be no folder: taken is a file\n")
    assert Path("taken").read_text() == "notes"


@pytest.mark.parametrize("command", ["run", "fit"])
def test_a_refused_command_leaves_no_folder(command: str) -> None:
    """Neither for a key that does not exist nor for a task that is not there."""
    assert main([command, *CASCADE, "taskss=coqa_demo"]) == 2
    assert main([command, *CASCADE, "tasks=no_such_task"]) == 2
    assert main([command, *CASCADE, "num_fewshot=-1", "output=mine/inner"]) == 2
    assert [p for p in Path.cwd().iterdir() if p.name != "cache"] == []


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("tasks=coqa,qasper", "tasks=[coqa,qasper]"),
        ("tasks=coqa", "tasks=[coqa]"),
        ("cost.tiers=1,50", "cost.tiers=[1,50]"),
        ("cost.tiers=1+10,1+50", "cost.tiers=[1,10],[1,50]"),
        ("cost.parameters=1e+8+7e+9", "cost.parameters=[1e+8,7e+9]"),
        ("tiers=smollm2+gemma3", "tiers=[smollm2,gemma3]"),
        ("tasks=[coqa]", "tasks=[coqa]"),
        ("seed=0,1", "seed=0,1"),
        ("gen_kwargs=max_gen_toks=8,temperature=0", "gen_kwargs={max_gen_toks: 8,temperature: 0}"),
    ],
)
def test_a_list_needs_no_brackets(said: str, meant: str) -> None:
    """A comma makes a list where a key takes one, and a sweep elsewhere."""
    assert hydra_app.as_settings(RUN, [said]) == [meant]


def test_the_options_of_lm_eval_are_understood() -> None:
    """The same words as after ``lm_eval`` give the same settings."""
    words = "--model automix --tasks coqa,qasper --limit=5 --apply_chat_template --output_path out"
    cascade = ["--model_args", "slm=hf,slm.pretrained=a/b,record=full", "-m"]
    assert hydra_app.as_settings(RUN, [*words.split(), *cascade]) == [
        "tasks=[coqa,qasper]", "limit=5", "apply_chat_template=true", "output=out", "slm=hf",
        "slm.pretrained=a/b", "record=full", "-m",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--gen_kwargs", '{"until": ["\\n", "a, \'b\'"], "do_sample": false}'], "gen_kwargs",
         {"until": ["\n", "a, 'b'"], "do_sample": False}),
        (['metadata={"split_seed": 1}'], "metadata", {"split_seed": 1}),
        (["--system_instruction", "Be brief, it's \"so\""], "system_instruction",
         'Be brief, it\'s "so"'),
        (["--apply_chat_template", "tool_use"], "apply_chat_template", "tool_use"),
        (["store.path=/srv/jürgen/Mes réponses/日本.db"], "store.path",
         "/srv/jürgen/Mes réponses/日本.db"),
        (["system_instruction=Réponds en un mot !"], "system_instruction", "Réponds en un mot !"),
        (["slm.pretrained=models/a#b;c"], "slm.pretrained", "models/a#b;c"),
        (["tasks=größe,b&c"], "tasks", ["größe", "b&c"]),
        (["gen_kwargs=until=é,max_gen_toks=4"], "gen_kwargs", {"until": "é", "max_gen_toks": 4}),
        (["--apply_chat_template", "tasks=a"], "apply_chat_template", True),
    ],
)  # fmt: skip
def test_values_of_lm_eval_arrive_as_they_are(words: list[str], key: str, value: object) -> None:
    """JSON of a mapping, a text with commas and quotes, a template's name, any language."""
    (first, *_) = hydra_app.parse(hydra_app.as_settings(RUN, words))
    assert (first.key_or_group, first.value()) == (key, value)


def test_several_values_without_m_are_refused_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The remedy is named, and nothing of Hydra's."""
    assert main(["run", *CASCADE, "meta_verifier=threshold,pomdp"]) == 2
    said = capsys.readouterr().err
    assert "add -m to run each" in said
    assert "HYDRA" not in said


@pytest.mark.slow
def test_a_note_in_a_results_folder_chooses_no_code(capsys: pytest.CaptureFixture) -> None:
    """Whatever stands in a job's note, only its plain fields are read."""
    line = ["run", "-m", *CASCADE, "meta_verifier=greedy,threshold", "output=s"]
    assert main(line) == 0
    for path in Path("s").glob("*/job.json"):
        found = json.loads(path.read_text())
        found["settings"] = {"_target_": "os.system", "_args_": ["touch owned"]}
        found["run"] = "../../outside"
        path.write_text(json.dumps(found))
    assert main(line) == 0
    assert not Path("owned").exists()
    assert all(json.loads(p.read_text())["run"] == "run_2" for p in Path("s").glob("*/job.json"))


@pytest.mark.parametrize("path", sorted((hydra_conf_dir() / "hydra").rglob("*.yaml")))
def test_every_launcher_and_sweeper_composes(path: Path) -> None:
    """Each file is a working part of the configuration where its plugin is installed."""
    pytest.importorskip(f"hydra_plugins.{plugins.PLUGINS[path.stem][0]}")
    assert main(["run", "--cfg", "hydra", f"hydra/{path.parent.name}={path.stem}"]) == 0


def test_fit_writes_a_policy_that_a_run_takes(capsys: pytest.CaptureFixture) -> None:
    """Only train questions are asked, and the policy is the one that the run would fit."""
    assert main(["fit", *CASCADE, "meta_verifier=threshold", "output=f"]) == 0
    (policy,) = Path("f").glob("automix_policy_*.json")
    assert f"policy: {policy}" in capsys.readouterr().out.replace(str(Path.cwd()) + "/", "")
    (records,) = Path("f").glob("automix_records_*.jsonl")
    phases = {json.loads(line)["phase"] for line in records.read_text().splitlines()}
    assert phases == {"calibration"}
    run = ["run", *CASCADE, "meta_verifier=threshold", f"meta_verifier.policy={policy}"]
    assert main([*run, "output=r"]) == 0


def test_fit_refuses_a_router_that_learns_nothing(capsys: pytest.CaptureFixture) -> None:
    """There is no policy to write."""
    assert main(["fit", *CASCADE, "meta_verifier=always_slm", "output=f"]) == 2
    assert "has nothing to fit" in capsys.readouterr().err


def test_a_sweep_over_amounts_of_calibration_makes_no_call_after_the_largest() -> None:
    """With the largest first, the first job asks everything."""
    line = ["run", "-m", *CASCADE, "meta_verifier=threshold", "output=s"]
    assert main([*line, "calibration.num_docs=15,10"]) == 0
    assert [int(r["calls_made"]) > 0 for r in table(Path("s"))] == [True, False]
