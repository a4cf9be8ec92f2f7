"""Rollouts, measured: what is taken back and when, what goes forward, and what a switch costs.

    python bench/rollout.py                       everything; under an hour on a quiet machine
    python bench/rollout.py --part regressions --runs 3 [--only 0,1]
    python bench/rollout.py --part good|simulated|switch|rollbacks|recording
    python bench/rollout.py --quick               small numbers, to see that it runs

The service, its callers and whoever keeps the rollout are processes of their own on this machine; ports are free ones.
Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the simulated worlds are those of the tests

from rollout_promoted import promoted, recording
from rollout_regressions import regressions
from rollout_rollbacks import rollbacks
from rollout_simulated import good, simulated
from rollout_switch import switch

PARTS: dict[str, Callable[[Path, argparse.Namespace], list[str]]] = {
    "regressions": lambda home, options: regressions(home, runs=options.runs, only=options.only),
    "simulated": lambda home, options: simulated(runs=20 if options.quick else 400),
    "good": lambda home, options: [
        *good(runs=20 if options.quick else 100),
        *promoted(home, runs=1 if options.quick else 3),
    ],
    "switch": lambda home, options: switch(home, times=3 if options.quick else options.times),
    "recording": lambda home, options: recording(home),
    "rollbacks": lambda home, options: rollbacks(home, times=1 if options.quick else 5),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=tuple(PARTS), action="append", help="one part, or several, instead of all")
    parser.add_argument("--runs", type=int, default=3, help="live runs of each regression")
    parser.add_argument("--times", type=int, default=50, help="switches each way")
    parser.add_argument("--only", type=lambda text: [int(one) for one in text.split(",")], default=[],
                        help="places of regressions in the list, from 0")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small numbers")
    options = parser.parse_args()
    options.runs = 1 if options.quick else options.runs
    for part in options.part or tuple(PARTS):
        home = Path(tempfile.mkdtemp(prefix="modelyard-rollout-"))
        began = time.monotonic()
        try:
            print(f"## {part}\n")
            print("\n\n".join(PARTS[part](home, options)), flush=True)
            print(f"\n({time.monotonic() - began:.0f} s)\n", flush=True)
        finally:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
