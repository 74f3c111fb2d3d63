"""The serving example, by a real client: it says what the classifier says, or what is wrong."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import skfairft
from skfairft.metrics import demographic_parity_distance

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "serve.py"
MOST_SECONDS = 60.0


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("serve", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model") / "new"


@pytest.fixture(scope="module")
def fitted(example, folder):
    """Return the classifier that is served, and rows that it has not seen, with labels and sex."""
    clf = example.build(folder)
    X, y, sex, (*_, held_out) = example.adult()
    return clf, X[held_out], y[held_out], sex[held_out]


def address_in(log, process):
    """Wait until a server says where it listens."""
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"no server after {MOST_SECONDS} s:\n{log.read_text()}")


@pytest.fixture(scope="module")
def client(fitted, folder, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "serve.log"
    environment = os.environ | {"PYTHONPATH": str(Path(skfairft.__file__).parents[1])}
    command = [sys.executable, "-W", "error", str(SCRIPT), "serve", str(folder), "--port", "0"]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        # Nothing of the environment, such as a proxy, is between the two.
        with httpx.Client(
            base_url=address_in(log, process), timeout=MOST_SECONDS, trust_env=False
        ) as client:
            yield client
    finally:
        process.terminate()
        process.wait(MOST_SECONDS)
    assert "Traceback" not in log.read_text()


def check(client, clf, rows):
    """Compare the answers about rows with what the classifier says of them."""
    response = client.post("/predict", json={"rows": rows.tolist()})
    assert response.status_code == 200, response.text
    classes, scores = zip(*map(dict.values, response.json()), strict=True)
    expected = clf.decision_function(rows)
    # The backbone's numbers are float32, and rounded otherwise in a batch of another size.
    largest = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(scores, expected, rtol=0, atol=largest)
    clear = np.abs(expected) > largest
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(np.array(classes)[clear], clf.predict(rows)[clear])


@pytest.mark.slow
def test_answers_are_the_classifier_s(client, fitted):
    clf, X, *_ = fitted
    assert 0.02 < clf.predict(X[:1000]).mean() < 0.98  # control: it decides both ways
    for rows in (X[:1000], X[1000:1001]):
        check(client, clf, rows)


@pytest.mark.slow
def test_fifty_at_once_get_their_own_answers(client, fitted):
    clf, X, *_ = fitted
    with ThreadPoolExecutor(50) as pool:
        batches = [X[20 * i : 20 * i + 1 + i % 20] for i in range(50)]
        assert len(list(pool.map(lambda rows: check(client, clf, rows), batches))) == 50


def test_it_says_what_was_measured(client, fitted, example):
    clf, X, y, sex = fitted
    facts = client.get("/model").json()
    assert facts["columns"] == example.COLUMNS
    assert facts["classes"] == clf.classes_.tolist()
    measured, decided = facts["measured"], clf.predict(X)
    assert measured["rows"] == len(X)
    assert measured["accuracy"]["value"] == pytest.approx((decided == y).mean())
    distance = measured["demographic_parity_distance"]
    assert distance["value"] == pytest.approx(
        demographic_parity_distance(y, decided, sensitive_features=sex)
    )
    for each in (measured["accuracy"], distance):
        assert each["low"] < each["value"] < each["high"]


JSON = {"Content-Type": "application/json"}  # json.dumps writes NaN, httpx would not
ROW = [39, 13, 2174, 0, 40]


class TestWrongInput:
    @pytest.mark.parametrize(
        ("body", "at", "words"),
        [
            ({"rows": [ROW, ROW[:4]]}, "rows.1", "at least 5 items"),
            ({"rows": [[*ROW, 1]]}, "rows.0", "at most 5 items"),
            ({"rows": [["39", *ROW[1:]]]}, "rows.0.0", "valid number"),
            ({"rows": [[*ROW[:4], True]]}, "rows.0.4", "valid number"),
            ({"rows": [[*ROW[:4], None]]}, "rows.0.4", "valid number"),
            ({"rows": [[*ROW[:4], float("nan")]]}, "rows.0.4", "finite number"),
            ({"rows": [[*ROW[:4], float("-inf")]]}, "rows.0.4", "finite number"),
            ({"rows": [[*ROW[:4], 10**400]]}, "rows.0.4", "number"),
            ({"rows": ROW}, "rows.0", "valid list"),
            ({"rows": []}, "rows", "at least 1 item"),
            ({"rows": [ROW] * 1001}, "rows", "at most 1000 items"),
            ({"rows": [ROW], "groups": [1]}, "groups", "not permitted"),
            ({}, "rows", "required"),
            ([ROW], "", "dictionary or object"),
        ],
    )
    def test_is_said(self, client, body, at, words):
        response = client.post("/predict", content=json.dumps(body), headers=JSON)
        assert response.status_code == 422
        detail = response.json()["detail"]
        assert detail["errors"][0]["at"] == at
        assert words in detail["errors"][0]["error"]
        assert len(detail["columns"]) == 5

    def test_that_is_no_json_is_said(self, client):
        for content in (b"", b"{", b"\xff\xfe", b"rows"):
            response = client.post("/predict", content=content, headers=JSON)
            assert response.status_code in (400, 422)
            assert response.json()["detail"]

    def test_in_great_numbers_is_said_in_short(self, client):
        response = client.post("/predict", json={"rows": [["no"] * 5] * 1000})
        assert response.status_code == 422
        assert response.json()["detail"]["more_errors"] == 4995
        assert len(response.content) < 1000

    def test_too_large_for_the_model_is_said(self, client):
        response = client.post("/predict", json={"rows": [ROW, [1e300, *ROW[1:]]]})
        assert response.status_code == 422
        assert "score of row 1 is not finite" in response.json()["detail"]
        assert client.post("/predict", json={"rows": [ROW]}).status_code == 200  # it goes on
