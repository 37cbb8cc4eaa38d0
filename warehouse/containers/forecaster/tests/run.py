"""Runs every test function of this folder; needs no test framework. Exit code 1 where one fails.

Usage: python tests/run.py [part of a name]
"""
import importlib
import os
import sys
import time
import traceback

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]


def main(wanted):
    """Imports test_*.py in order of name and calls each test_ function."""
    failed = 0
    for file in sorted(f for f in os.listdir(HERE) if f.startswith("test_") and f.endswith(".py")):
        module = importlib.import_module(file[:-3])
        for name in [n for n in vars(module) if n.startswith("test_")]:
            if wanted not in f"{file}::{name}":
                continue
            started = time.time()
            try:
                getattr(module, name)()
                verdict = "ok"
            except Exception:
                verdict = "FAILED"
                failed += 1
                traceback.print_exc()
            print(f"{verdict:6} {time.time() - started:6.1f} s  {file}::{name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
