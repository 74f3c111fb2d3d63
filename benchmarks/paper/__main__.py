"""The paper's evaluation, rerun: ``python benchmarks/paper [experiment ...] [--quick]``.

Without names, all experiments; ``report`` writes docs/reproduction.md, its page of tables and their
figures from what is stored, or from docs/reproduction.json if no run is. Runs resume where they
were interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

# One thread in each process, before the libraries read it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from paper.experiments import EXPERIMENTS  # noqa: E402
from paper.runs import is_whole, read, run  # noqa: E402
from paper.tasks import DEFAULT_CACHE  # noqa: E402


def main() -> int:
    """Run what the command line says."""
    # Being terminated ends the processes of the pool, too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lines = "\n".join(f"  {name:9} {each.title}" for name, each in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python benchmarks/paper",
        description=f"{__doc__}\n\nExperiments:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", metavar="experiment", help="names, or report")
    parser.add_argument("--seeds", type=int, help="number of seeds (10; quick 2)")
    parser.add_argument(
        "--quick", action="store_true", help="1,000 images, 500 training rows, two seeds"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--cache", type=Path, help="folder of features and networks")
    parser.add_argument("--results", type=Path, help="folder of stored rows")
    parser.add_argument(
        "--docs", type=Path, help="folder of the pages (docs/ for the whole run, else in the cache)"
    )
    options = parser.parse_args()
    unknown = set(options.what) - {*EXPERIMENTS, "report"}
    if unknown:
        parser.error(f"no experiment is named {', '.join(sorted(unknown))}")
    cache = options.cache or DEFAULT_CACHE.with_name(
        DEFAULT_CACHE.name + ("-quick" if options.quick else "")
    )
    results = options.results or cache / "results"
    chosen = [name for name in options.what if name != "report"]
    failed = 0
    if chosen or not options.what:
        seeds = range(options.seeds or (2 if options.quick else 10))
        failed = run(
            chosen or list(EXPERIMENTS), seeds, cache, results, options.quick, options.jobs
        )
    if "report" in options.what or not options.what:
        from paper.report import write_report  # draws: loads matplotlib

        rows, about = read(results)
        # The pages of a part must not take the place of the whole ones.
        whole = not rows or (is_whole(rows) and not options.quick)
        write_report(rows, about, options.docs or (HERE.parents[1] if whole else cache) / "docs")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted. What is finished is stored; the same command goes on from there.")
