# One virtual environment per purpose, each with its own stamp file: .venv serves labels and captions (with torch),
# .venv-lite serves labels only (no torch), .venv-dev trains, tests and lints.
# Each gets uv from the package index, which resolves and installs in seconds.
PYTHON ?= python3
SERVE := .venv/bin
DEV := .venv-dev/bin

.DEFAULT_GOAL := help
.PHONY: help demo demo-lite triton-demo serve test lint types docs docs-serve bench constraints clean clean-all

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 22

demo: .venv/.ready  ## set up, start the gateway, label and caption new clips, draw a contact sheet of the frames it used
	@$(SERVE)/python examples/demo.py

demo-lite: .venv-lite/.ready  ## like demo, without captions: no torch, a tenth of the download
	@.venv-lite/bin/python examples/demo.py --no-captions

serve: .venv/.ready  ## set up and serve the shipped model at http://127.0.0.1:8000 (API page: /docs)
	$(SERVE)/sefar serve

triton-demo: .venv-triton/.ready  ## set up a Triton server and a gateway, classify clips through them, stop both
	@.venv-triton/bin/python examples/demo.py --triton

test: .venv-dev/.ready  ## set up and run all tests
	$(DEV)/pytest -n auto --durations=10

lint: .venv-dev/.ready docs  ## check style of Python, Dockerfiles, YAML and workflows, spelling, and links in the docs
	$(DEV)/ruff check .
	$(DEV)/ruff format --check .
	$(DEV)/lint-imports --no-logo
	$(DEV)/codespell
	$(DEV)/hadolint Dockerfile deploy/triton/Dockerfile
	$(DEV)/yamllint --strict deploy training/recipes mkdocs.yml .github
	$(DEV)/zizmor --offline --quiet --pedantic .github
	$(DEV)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(DEV)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(DEV)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(DEV)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

types: .venv-dev/.ready  ## run mypy --strict on the server and client packages
	$(DEV)/mypy

docs: .venv-dev/.ready  ## build the documentation site in site/; broken links and anchors are errors
	NO_MKDOCS_2_WARNING=1 $(DEV)/mkdocs build --strict

docs-serve: .venv-dev/.ready  ## preview the documentation at http://127.0.0.1:8100 while you edit it
	NO_MKDOCS_2_WARNING=1 $(DEV)/mkdocs serve --dev-addr 127.0.0.1:8100

bench: .venv-dev/.ready  ## run the main benchmarks; each compares two variants in one run
	$(DEV)/python benchmarks/decode.py
	$(DEV)/python benchmarks/cpu_inference.py
	$(DEV)/python benchmarks/serve.py
	$(DEV)/python benchmarks/triton_server.py
	$(DEV)/python benchmarks/captions.py
	$(DEV)/python benchmarks/extract.py  # 8 minutes
	$(DEV)/python benchmarks/train_step.py  # 8 minutes, 18 GiB

constraints: .venv-dev/.ready  ## pin the newest compatible versions in constraints.txt
	@echo "# Every version the project is tested with. Made by 'make constraints' from pyproject.toml; do not edit by hand." > constraints.txt.new
	@$(DEV)/uv pip compile pyproject.toml --extra dev --extra examples --extra pose --extra ray --extra train --extra triton --universal --python-version 3.11 \
	  --fork-strategy fewest --no-header --no-annotate --no-emit-index-url -q >> constraints.txt.new
	@mv constraints.txt.new constraints.txt

.venv/.ready: pyproject.toml constraints.txt
	@echo "Setting up the serving environment in .venv (with torch for captions: several GB the first time)"
	@$(call make-venv,.venv,.[cpu$(comma)mllm$(comma)synth])

.venv-lite/.ready: pyproject.toml constraints.txt
	@echo "Setting up the serving environment in .venv-lite (no torch)"
	@$(call make-venv,.venv-lite,.[cpu$(comma)synth])

# A gateway in front of Triton needs no onnxruntime. The Triton server has its own environment.
.venv-triton/.ready: pyproject.toml constraints.txt
	@echo "Setting up a gateway for Triton in .venv-triton"
	@$(call make-venv,.venv-triton,.[triton$(comma)synth])

.venv-dev/.ready: pyproject.toml constraints.txt
	@echo "Setting up the development environment in .venv-dev (with torch: several GB the first time)"
	@$(call make-chromium)
	@$(call make-venv,.venv-dev,.[dev$(comma)examples$(comma)pose$(comma)ray$(comma)train$(comma)triton])

comma := ,
define make-venv
$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is required, but this is " + sys.version.split()[0] + "; run: make PYTHON=python3.11 ...")'
test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
test -x $(1)/bin/uv || $(1)/bin/python -m pip install -q --disable-pip-version-check uv
$(1)/bin/uv pip install -q --python $(1)/bin/python -c constraints.txt -e '$(2)'
touch $@
endef

# Browser tests are skipped, and reported as skipped, if Chromium cannot be installed.
define make-chromium
test -x /usr/bin/chromium || { test "$$(id -u)" = 0 && apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
  || echo "Chromium is not installed, so browser tests are skipped; to run them: apt-get install chromium"
endef

clean:  ## remove the virtual environments, the demo, the documentation site and builds; keep data/ and runs/
	rm -rf .venv .venv-lite .venv-dev .venv-triton demo site dist build

clean-all: clean  ## clean, and also delete your data sets (data/) and trained models (runs/)
	rm -rf data runs
