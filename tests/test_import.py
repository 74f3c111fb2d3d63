import subprocess
import sys

# What only some uses need, each of it slow to import.
HEAVY = [
    *("dask", "distributed", "fairlearn", "matplotlib"),
    *("sklearn.linear_model", "sklearn.pipeline"),
]

SCRIPT = f"""
import sys
import skorch
for name in {HEAVY}:
    assert name not in sys.modules, f"skorch imports {{name}} itself: drop it from the list"
import skfairft
import skfairft.datasets
import skfairft.metrics
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_importing_the_package_imports_nothing_slow_beyond_skorch():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"
