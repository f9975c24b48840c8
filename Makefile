# One environment a purpose, each made by its own stamp: .venv serves labels and captions (torch), .venv-lite labels
# alone (no torch), .venv-dev trains, tests and lints.
# uv is installed from the package index into each; it resolves and installs in seconds.
PYTHON ?= python3
SERVE := .venv/bin
DEV := .venv-dev/bin

.DEFAULT_GOAL := help
.PHONY: help demo demo-lite triton-demo serve test lint types docs docs-serve bench constraints clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 22

demo: .venv/.ready  ## set up, start the gateway, label and caption clips it never saw, draw what it looked at
	@$(SERVE)/python examples/demo.py

demo-lite: .venv-lite/.ready  ## the same without captions: no torch, a tenth of the download
	@.venv-lite/bin/python examples/demo.py --no-captions

serve: .venv/.ready  ## set up and serve the shipped model on http://127.0.0.1:8000 (see /docs)
	$(SERVE)/sefar serve

triton-demo: .venv-triton/.ready  ## set up a real Triton server, serve through it, classify, stop
	@.venv-triton/bin/python examples/demo.py --triton

test: .venv-dev/.ready  ## set up and run every test
	$(DEV)/pytest -n auto --durations=10

lint: .venv-dev/.ready docs  ## rules and format of Python, Dockerfiles, YAML, workflows; spelling; every link in the docs
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

types: .venv-dev/.ready  ## mypy --strict on what we serve and what clients import
	$(DEV)/mypy

docs: .venv-dev/.ready  ## build the documentation site into site/; a broken link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(DEV)/mkdocs build --strict

docs-serve: .venv-dev/.ready  ## show the documentation on http://127.0.0.1:8100 while you write it
	NO_MKDOCS_2_WARNING=1 $(DEV)/mkdocs serve --dev-addr 127.0.0.1:8100

bench: .venv-dev/.ready  ## the headline figures, each A against B in one run
	$(DEV)/python benchmarks/decode.py
	$(DEV)/python benchmarks/serve.py
	$(DEV)/python benchmarks/triton_server.py
	$(DEV)/python benchmarks/captions.py
	$(DEV)/python benchmarks/extract.py  # 8 minutes
	$(DEV)/python benchmarks/train_step.py  # 8 minutes, 18 GiB

constraints: .venv-dev/.ready  ## pin the newest versions that resolve, without naming an index
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

# Of the gateway only what is in front of Triton: no onnxruntime. The server itself has an environment of its own.
.venv-triton/.ready: pyproject.toml constraints.txt
	@echo "Setting up a gateway for Triton in .venv-triton"
	@$(call make-venv,.venv-triton,.[triton$(comma)synth])

.venv-dev/.ready: pyproject.toml constraints.txt
	@echo "Setting up the development environment in .venv-dev (with torch: several GB the first time)"
	@$(call make-chromium)
	@$(call make-venv,.venv-dev,.[dev$(comma)examples$(comma)pose$(comma)ray$(comma)train$(comma)triton])

comma := ,
define make-venv
$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.11 ...")'
test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
test -x $(1)/bin/uv || $(1)/bin/python -m pip install -q --disable-pip-version-check uv
$(1)/bin/uv pip install -q --python $(1)/bin/python -c constraints.txt -e '$(2)'
touch $@
endef

# Tests in a browser are skipped, by name, where Chromium cannot be installed.
define make-chromium
test -x /usr/bin/chromium || { test "$$(id -u)" = 0 && apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
  || echo "Chromium is not installed, so tests in a browser are skipped; to run them: apt-get install chromium"
endef

clean:  ## remove the environments and everything generated
	rm -rf .venv .venv-lite .venv-dev .venv-triton demo data runs site dist build
