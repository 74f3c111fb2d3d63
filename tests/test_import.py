import importlib
import subprocess
import sys
import textwrap

import pytest

import skfairft
from skfairft import displays, summary

# What only some uses need, each of it slow to import.
HEAVY = [
    *("dask", "distributed", "fairlearn", "matplotlib", "skorch", "torch"),
    *("sklearn.linear_model", "sklearn.pipeline"),
]

# Of two classes, of four, with groups in several columns; of all kinds of columns.
AUDITS = """
import warnings
from tempfile import TemporaryDirectory
import numpy as np
import pandas as pd
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from skfairft import FairnessWarning
from skfairft.cli import main
from skfairft.metrics import (
    calibration_error,
    constraint_distance,
    constraint_ratio,
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    fairness_scorer,
    load_report,
    weighted_f1_error,
    worst_group_error,
)
from skfairft.parity.table import TABLE

rng = np.random.default_rng(0)
y, pred, s = rng.integers(2, size=900), rng.integers(2, size=900), rng.integers(3, size=900)
w, p = rng.exponential(size=900), rng.random(900)
several = pd.DataFrame({"s": s, "t": rng.integers(2, size=900)})
given = {"sensitive_features": s}
for weights in (None, w):
    for labels in (y, 2 * y + rng.integers(2, size=900)):
        for more in (given, {"sensitive_features": several, "groups": "columns"}):
            report = fairness_report(
                labels, pred, constraint=list(TABLE), ratio=True, sample_weight=weights, **more
            )
            assert report.headline["low"].notna().any()
            print(report, report.to_html(), report.to_markdown())
for constraint, row in TABLE.items():
    constraint_distance(y, pred, constraint=constraint, **given)
    if not row.largest:
        constraint_ratio(y, pred, constraint=constraint, **given)
assert 0 < demographic_parity_distance(y.tolist(), pred.tolist(), **given) < 1
equalized_odds_distance(pd.Series(y), pd.Series(pred), **given)
worst_group_error(y, pred, over="groups", **given)
weighted_f1_error(y, pred, sample_weight=w)
calibration_error(y, p, sample_weight=w, **given)
calibration_error(y, np.c_[1 - p, p], **given)


report = fairness_report(y, pred, constraint="equalized_odds", difference_bound=0.2, **given)
assert report.bounds["holds"].notna().all()
with TemporaryDirectory() as folder:
    report.save(f"{folder}/report.json")
    then = load_report(f"{folder}/report.json")
    fairness_report(y, 1 - pred, **given).compare(then).save(f"{folder}/since.html")
    pd.DataFrame({"y": y, "pred": pred, "s": s}).to_csv(f"{folder}/rows.csv", index=False)
    assert main(f"audit {folder}/rows.csv --label y --prediction pred --groups s".split()) == 0
with sklearn.config_context(enable_metadata_routing=True):
    scorer = fairness_scorer("equalized_odds_ratio")
    GridSearchCV(LogisticRegression(), {"C": [1.0]}, scoring=scorer).fit(p[:, None], pred, **given)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", FairnessWarning)
    assert np.isnan(demographic_parity_distance(y, pred, sensitive_features=0 * s))
assert caught
"""


def run(script):
    """Run a script in a process of its own, and return what it prints last."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()[-1]


LOADED = f"print([name for name in {HEAVY} if name in sys.modules])"


def test_importing_the_package_imports_nothing_slow():
    rooms = ["datasets", "displays", "inputs", "metrics", "parity", "parity.limits", "summary"]
    imports = "\n".join(f"import skfairft.{room}" for room in rooms)
    assert run(f"import sys, skfairft\n{imports}\n{LOADED}") == "[]"


@pytest.mark.slow
def test_importing_all_its_names_imports_nothing_slow_beyond_skorch():
    script = "import sys, skorch\nbefore = set(sys.modules)\nfrom skfairft import *\nload\n"
    beyond = f"print([name for name in {HEAVY} if name in set(sys.modules) - before])"
    assert run(script + beyond) == "[]"
    # What is checked here is not there anyway.
    assert run(f"import sys, skorch\n{LOADED}") == "['skorch', 'torch']"


def test_audits_need_no_torch():
    slow = "print([name for name in ('torch', 'skorch', 'matplotlib') if name in sys.modules])"
    assert run(f"import sys\n{AUDITS}\n{slow}") == "[]"


@pytest.mark.slow
def test_audits_of_polars_need_no_torch():
    pytest.importorskip("polars")
    script = """
    import sys
    import polars as pl
    from skfairft.metrics import fairness_report, demographic_parity_distance

    s, t = ["a", "a", "b", "b"] * 20, [0, 1, 1, 0, 1] * 16
    table = pl.DataFrame({"y": [0, 1] * 40, "s": s, "t": t})
    demographic_parity_distance(table["y"], table["t"], sensitive_features=table["s"])
    fairness_report(table["y"], table["t"], sensitive_features=table.select("s", "t"))
    print("torch" in sys.modules)
    """
    assert run(script) == "False"


@pytest.mark.slow
def test_pictures_of_audits_need_no_torch():
    pytest.importorskip("matplotlib")
    script = """
    import sys
    import matplotlib
    matplotlib.use("agg")
    from skfairft import GroupCalibrationDisplay, GroupRatesDisplay

    y, s = [0, 1] * 40, ["a", "a", "b", "b"] * 20
    GroupRatesDisplay.from_predictions(y, y, sensitive_features=s)
    GroupCalibrationDisplay.from_predictions(y, [0.4, 0.6] * 40, sensitive_features=s)
    print("torch" in sys.modules)
    """
    assert run(script) == "False"


@pytest.mark.slow
def test_audits_take_tensors_once_torch_is_there():
    script = """
    from skfairft.metrics import fairness_report

    y, s = [0, 1, 1] * 20, ["a", "b"] * 30
    before = fairness_report(y, y[::-1], sensitive_features=s, n_boot=0)
    import torch

    tensors = torch.tensor(y), torch.tensor(y[::-1])
    after = fairness_report(*tensors, sensitive_features=s, n_boot=0)
    print(before.by_group.equals(after.by_group) and before.headline.equals(after.headline))
    """
    assert run(script) == "True"


@pytest.mark.parametrize("package", [skfairft, displays, summary], ids=lambda each: each.__name__)
class TestOnDemand:
    def test_all_names_are_there(self, package):
        for name in package.__all__:
            found = getattr(package, name)
            assert found.__name__ == name
            assert vars(package)[name] is found  # it is asked for once
        assert set(package.__all__) < set(dir(package))

    def test_what_is_not_there_is_an_error(self, package):
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no .* 'gone'"):
            package.gone  # noqa: B018
        assert not hasattr(package, "__main__")  # asking would run it
        with pytest.raises(ImportError, match="cannot import name 'gone'"):
            exec(f"from {package.__name__} import gone")


def test_modules_are_there_without_being_imported_first():
    script = """
    import sys, skfairft
    skfairft.metrics.fairness_report, skfairft.parity.table.TABLE
    print("torch" in sys.modules, "distributed" in dir(skfairft))
    """
    assert run(script) == "False False"
    assert skfairft.preprocessing is importlib.import_module("skfairft.preprocessing")
