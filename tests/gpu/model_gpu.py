"""Networks on a GPU: training throughput, utilisation, time to answer. See README.md here."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from recon.cli.bench import model_table
from recon.reporting import say
from training.benchmarks.model import ModelCase, bench_model

MIN_TRAINING_UTILISATION, MAX_INFERENCE_MS = 0.45, 100.0
CASES = [
    ModelCase("gs-lrm", "base", views=4, side=256, batch=16),
    ModelCase("gs-lrm", "paper", views=4, side=256, batch=8),
    ModelCase("cost-volume", "base", views=4, side=256, batch=4),
    ModelCase("gs-lrm", "paper", views=4, side=512, train=False),
]


def main() -> int:
    """0 when every bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("model-gpu.json"))
    parser.add_argument("--small", action="store_true", help="tiny sizes: a dry run, no bars")
    options = parser.parse_args()
    cases, repeats = CASES, 10
    if options.small:
        cases = [replace(case, size="tiny", side=32, batch=1) for case in CASES]
        repeats = 1
    results = bench_model(cases, options.device, "bf16", repeats, say)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    say(model_table(results))
    if options.small:
        return 0
    missed = [
        f"{row['network']} {row['size']}: training uses {row['training_utilisation']:.0%}"
        for row in results["rows"]
        if row["network"] == "gs-lrm"
        and row.get("training_utilisation", 1) < MIN_TRAINING_UTILISATION
    ]
    answer = results["rows"][-1]["inference_ms"]
    if answer > MAX_INFERENCE_MS:
        missed.append(f"gs-lrm paper at 4x512x512 takes {answer:.0f} ms")
    for line in missed:
        say(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
