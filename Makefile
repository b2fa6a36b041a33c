# make paper: everything from nothing, figures, tables and PDF.   make test: the tests and the notebooks.
PYTHON ?= python3
SCALE_GIVEN := $(filter-out undefined default,$(origin SCALE))
SCALE ?= micro
RECORDS ?=

# An active environment that holds this checkout and its tools is used as it is; otherwise .venv is made from the lock.
ACTIVE := $(shell [ -n "$$VIRTUAL_ENV$$CONDA_PREFIX" ] && [ "$$VIRTUAL_ENV" != "$(CURDIR)/.venv" ] && \
	python -I -c 'import os, sys, importlib.util as u; \
	here = os.path.samefile(os.path.dirname(u.find_spec("hylorada").origin), "hylorada"); \
	here and all(map(u.find_spec, ["snakemake", "pytest"])) and print(sys.prefix)' 2>/dev/null)
BIN := $(if $(ACTIVE),$(ACTIVE),$(CURDIR)/.venv)/bin
export PATH := $(BIN):$(PATH)

# What was given, as it was given: one word to the shell, and nothing that make would expand.
quoted = '$(subst ','\'',$(value $1))'
# The workflow's settings: kept records without a scale are those of the largest one there.
ASKED = $(if $(SCALE_GIVEN),scale=$(call quoted,SCALE) $(if $(value RECORDS),records=$(call quoted,RECORDS)/$(call quoted,SCALE)),\
	$(if $(value RECORDS),records=$(call quoted,RECORDS),scale=$(call quoted,SCALE)))
unexport SCALE RECORDS

# Snakemake and the hub's library keep caches under the home folder, which not every account can write to.
ifeq ($(shell place="$${XDG_CACHE_HOME:-$${HOME:+$$HOME/.cache}}" && mkdir -p "$$place" 2>/dev/null && [ -w "$$place" ] && echo yes),)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif

.PHONY: help setup paper docs quick test soak check clean

help:
	@echo 'make setup   Python environment in .venv with the locked packages (and pdflatex and tcmalloc, where there are none)'
	@echo 'make paper   setup, then every run, table, figure and paper/main.pdf; SCALE=smoke|micro|full|gpt2 (now: '$(call quoted,SCALE)')'
	@echo '             RECORDS=data/reference: from kept records of that scale, else of the largest kept, without any run'
	@echo 'make docs    setup, then docs/paper.pdf, docs/index.html and the result in README.md, from the kept records of the largest scale'
	@echo 'make quick   setup, then the formulas and the claims of one family: under a minute'
	@echo 'make test    setup, then the tests and the notebooks'
	@echo 'make soak    setup, then kills, full disks and damaged files by the hundred: half an hour and more; writes docs/reliability.md'
	@echo 'make check   setup, then style and workflow checks'
	@echo 'make clean   remove what was made; .venv and data/cache stay'

setup: $(if $(ACTIVE),,.venv/.stamp)

.venv/.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one, as in: make PYTHON=python3.12 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	.venv/bin/python tools/install.py requirements.lock
	.venv/bin/python -m pip install --no-deps --no-build-isolation --editable .
	.venv/bin/python tools/get_allocator.py
	@touch $@

paper: setup
	@trap 'echo "make: interrupted; the same command goes on from what is done" >&2; exit 130' INT; snakemake --cores all --config $(ASKED) && python tools/full_answer.py $(ASKED)

docs: setup
	python tools/make_docs.py

# The Llama rows of every claim stand for all families; what is compiled takes longer than all the rest.
quick: setup
	OMP_NUM_THREADS=1 pytest -n 0 tests/method/test_formulas.py tests/method/test_every_method.py \
		tests/method/test_config.py tests/study/test_house.py -k "not gpt2 and not qwen2 and not compiled"

test: setup
	OMP_NUM_THREADS=1 pytest  # two processes of one thread do more than two of two

# Half an hour and more; stopped, the same command goes on. A trial: make soak SOAK='--every 50 --examples 20'
soak: setup
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR):tests/fakes python tests/soak $(SOAK)

check: setup
	ruff check .
	ruff format --check .
	snakefmt --check .
	snakemake --lint

clean:
	rm -rf results logs build dist paper/build paper/tables paper/numbers.tex paper/*.pdf
	find figures -mindepth 1 ! -name README.md -delete
	rm -rf data/models data/corpora data/tokens
	rm -rf .snakemake .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
