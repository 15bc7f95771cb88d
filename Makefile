# Two commands: `make quickstart` shows the whole road on a machine without a GPU, `make test` checks it.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
EXTRAS ?= finetune
PYTEST_ARGS ?=
RUN ?= runs/quickstart
PIECE ?=
# Of the quickstart: less for the tests, which are about its commands.
STEPS ?= 300
TEXT_BYTES ?=

BIN := $(VENV)/bin
PRETRAIN = deepspeed --num_gpus 2 --log_level error pretrain/main.py --config gpt-tiny output=$(RUN)/gpt \
	data.train=$(RUN)/corpus parallel.zero_stage=3 parallel.tensor_size=2 training.device=cpu \
	$(if $(filter-out 300,$(STEPS)),training.duration="$(STEPS) steps")
INPUTS := pyproject.toml constraints.txt
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Else the hundreds of processes that the tests start would each compile the same modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv quickstart test test-fast test-slow lint format docs gpu-check clean
.DEFAULT_GOAL := help

help:  ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*##  */\1\t/p; s/^\([a-z-]*\):.*## */\1\t/p' $(MAKEFILE_LIST) | sort -u | expand -t 14

venv: $(VENV)/.with-$(EXTRAS)  ## Make the environment for training and fine-tuning; EXTRAS=finetune,clean adds packages.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)) and "Python 3.11 or 3.12 is needed, this is " + sys.version.split()[0] + "; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.with-$(EXTRAS): $(BIN)/python $(INPUTS)
	$(BIN)/pip install -q $(PIP_ARGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.for-developers: $(BIN)/python $(INPUTS)
	$(BIN)/pip install -q $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.with-finetune

quickstart: export OMP_NUM_THREADS = 1
quickstart: export DS_ACCELERATOR = cpu
# A GPU that is there stays unused: the two processes would need two.
quickstart: export CUDA_VISIBLE_DEVICES =
quickstart: venv  ## From raw text to a fine-tuned, exported model on two processes.
	rm -rf $(RUN)
	python -m data_prep sample-corpus --output $(RUN)/text.jsonl $(if $(TEXT_BYTES),--min-bytes 1 --max-bytes $(TEXT_BYTES))
	python -m data_prep train-tokenizer --config tokenizer-bpe-8k vocab_size=4096 --input $(RUN)/text.jsonl --output $(RUN)/tokenizer
	python -m data_prep tokenize --input $(RUN)/text.jsonl --tokenizer $(RUN)/tokenizer --output $(RUN)/corpus --workers 2
	@echo "# pretraining on two processes; this session stops half-way, with status 75 ..."
	$(PRETRAIN) training.session_limit="$(shell expr $(STEPS) / 2) steps" || test $$? -eq 75
	@echo "# ... and the same command resumes it."
	$(PRETRAIN)
	python -m finetune export --model $(RUN)/gpt --output $(RUN)/export
	python -m finetune generate --model $(RUN)/export --prompt "Return the" --max-new-tokens 60
	python -m finetune classify --config classify-kind --model $(RUN)/gpt --output $(RUN)/classifier data.train_texts=$(RUN)/text.jsonl \
		$(if $(filter-out 300,$(STEPS)),training.duration="$(STEPS) steps" data.max_eval_samples=200)

test: lint test-fast test-slow  ## Check everything: style, types, fast tests, slow tests.

test-fast: $(VENV)/.for-developers  ## The tests of a few seconds each.
	pytest -q -n 2 --dist loadfile -m 'not slow' $(PYTEST_ARGS)

test-slow: $(VENV)/.for-developers  ## Many processes, whole runs, a real Slurm where one can be installed.
	pytest -q -n 2 --dist loadfile -m slow --durations=10 $(PYTEST_ARGS)

lint: $(VENV)/.for-developers  ## ruff and mypy, as the pre-commit hooks run them.
	ruff check
	ruff format --check
	mypy

format: $(VENV)/.for-developers  ## Let ruff mend what it can.
	ruff check --fix
	ruff format

docs: $(VENV)/.for-developers  ## Write the generated pages and schemas anew, then run what the pages show.
	python -m configs reference
	python -m configs schema
	pytest -q tests/repository/test_repository_docs.py

# No environment is made: that would need a network. Whatever `python` is, or .venv's where there is one.
gpu-check:  ## On a machine with a GPU: tests, bits, speed, memory; PIECE=NAME runs one piece, each under 9 minutes.
	python -m benchmarks.gpu_check $(PIECE)

clean:  ## Remove caches, .venv and the quickstart's runs.
	rm -rf .venv runs/quickstart build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -not -path './.git/*' -exec rm -rf {} +
