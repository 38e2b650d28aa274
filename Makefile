# make demo   install into .venv, reconstruct the sample capture: scene.ply, scene.png
# make test   install into .venv, run the checks and all tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= sfm,heic,train,dev
# Number of CPU threads is torch's choice unless OMP_NUM_THREADS says otherwise.

.PHONY: install demo test check clean

install: $(VENV)/.installed

# Reinstalled when the build inputs change; Python sources are used in place.
$(VENV)/.installed: pyproject.toml constraints.txt CMakeLists.txt $(wildcard render/backends/cpu/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --no-deps stlpips-pytorch==0.0.2
	touch $@

demo: install
	$(BIN)/recon assets/sample -o scene.ply
	$(BIN)/recon render scene.ply -o scene.png --cameras assets/sample --view 3 --path orbit --size 768x576
	@echo "demo: wrote scene.ply (open it in any splat viewer) and scene.png (a view from a new place)"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

test: check
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis scene.ply scene.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
