# make demo   install into .venv, reconstruct nine aerial photos: scene.ply, scene.png
# make test   install into .venv, run the checks and all tests
# make benchmark   measure, and write docs/benchmark.md with plots (CAPTURES=FOLDER, QUICK=1)
# make check, make lint   the checks with two quick tests, or without
# make sanitize, make wheel   test the CPU kernel with sanitizers, and the packages in dist/
# make aarch64   test the CPU kernel for 64-bit Arm in an emulator
# make lock   write the versions of all packages in .venv to constraints.txt
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= sfm,match,heic,jxl,raw,video,spz,usd,las,exr,mesh,train,perceptual,dev
# Versions of all packages; for a Python other than the one named there: make install LOCK=/dev/null
LOCK ?= constraints.txt
# Number of CPU threads is torch's choice unless OMP_NUM_THREADS says otherwise.

.PHONY: install lock demo test lint check benchmark sanitize wheel aarch64 clean

install: $(VENV)/.installed

# Reinstalled when the build inputs change; Python sources are used in place. Byte code is left to
# the first import: most of the 15,000 files are never imported, and compiling all takes 45 s.
$(VENV)/.installed: pyproject.toml constraints.txt CMakeLists.txt $(wildcard render/backends/cpu/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV), which takes some minutes the first time'
	$(BIN)/python -m pip install --quiet --no-compile -c $(LOCK) -e '.[$(EXTRAS)]'
	touch $@

# Run it after `make install LOCK=/dev/null` in a fresh .venv to move to newer versions.
lock: install
	mkdir -p build
	{ sed -n '/^#/p' constraints.txt; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

demo: install
	$(BIN)/recon assets/city -o scene.ply
	$(BIN)/recon render scene.ply -o scene.png --cameras assets/city --camera-index 4 --path orbit --size 576x768
	@echo "demo: wrote scene.ply (open it in any splat viewer) and scene.png (a novel view)"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/python -m pytest tests/test_structure.py tests/test_words.py

# As many processes as cores, of one thread each; tests/conftest.py sorts the files. A browser that
# draws without a graphics card needs a core for itself, so its tests come after the others.
BROWSER := tests/viewer/test_browser.py
test: lint
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --ignore $(BROWSER) \
	  --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest $(BROWSER)

# A run that was ended goes on where it was: build/benchmark has what is done.
benchmark: install
	OMP_WAIT_POLICY=passive $(BIN)/python -m training.benchmark_report \
	  $(if $(CAPTURES),--captures '$(CAPTURES)') $(if $(QUICK),--quick)

# The kernel's tests with AddressSanitizer and UndefinedBehaviorSanitizer, both builds.
SANITIZED := build/sanitize
sanitize: install
	cmake -S . -B $(SANITIZED) -DRECON_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo > /dev/null
	cmake --build $(SANITIZED) --parallel > /dev/null
	for set in x86-64-v3 baseline; do \
	  echo "sanitize: $$set"; \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	  RECON_CPU_DIR=$(SANITIZED) RECON_CPU=$$set \
	  $(BIN)/python -m pytest tests/render/test_cpu.py tests/render/test_cpu_accuracy.py \
	    tests/render/test_cpu_properties.py -k "not fork" || exit 1; \
	done

# dist/: the sdist, and the wheel that it builds, named after the oldest glibc that can load it.
# Then each Python of PYTHONS installs the wheel into a fresh environment and reconstructs
# photographs there with an empty PATH: no compiler.
PYTHONS ?= $(PYTHON)
PIP_OPTIONS ?= -c $(abspath $(LOCK))
wheel: install
	rm -rf dist build/wheel
	$(BIN)/python -m build --no-isolation --outdir build/wheel . > /dev/null
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python release/repair.py build/wheel dist
	for python in $(PYTHONS); do \
	  PIP_OPTIONS="$(PIP_OPTIONS)" release/try_wheel.sh $$python dist/*.whl || exit 1; \
	done

# The kernel for 64-bit Arm: cross-compiled, and its tests in an emulator.
aarch64:
	release/aarch64.sh build/aarch64

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis scene.ply scene.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
