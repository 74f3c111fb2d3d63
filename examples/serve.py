"""A fair head behind a web server, all in one file.

It decides about five numbers of each row of UCI Adult, which is in the package. Besides that it
needs ``pip install fastapi uvicorn``::

    python examples/serve.py train FOLDER
    python examples/serve.py serve FOLDER --port 8000
    curl http://127.0.0.1:8000/model
    curl http://127.0.0.1:8000/predict -H "Content-Type: application/json" \
        -d '{"rows": [[39, 13, 2174, 0, 40]]}'
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field, create_model
from torch import Tensor, nn

COLUMNS = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
MOST_ROWS = 1000
MOST_ERRORS = 5


class Model(NamedTuple):
    """What a folder holds: the scores of rows (n, d), and what to know of them."""

    scores: Callable[[Tensor], Tensor]
    facts: dict[str, Any]


def adult() -> tuple[Any, Any, Any, Any]:
    """Return X, y, sex and the rows' numbers: of the network, the head, and the measurement."""
    import numpy as np

    from skfairft.datasets import fetch_adult

    table, y, groups = fetch_adult(return_X_y_s=True)
    X = table[COLUMNS].to_numpy(np.float32)
    order = np.random.default_rng(0).permutation(len(X))
    return X, y.to_numpy(), groups["sex"].to_numpy(), np.split(order, [20_000, 35_000])


def build(folder: Path) -> Any:
    """Train a network, fit a fair head on it, measure it, and write what `open_model` reads.

    Returns
    -------
    FairLowRankHeadClassifier
        What was fitted.
    """
    from skfairft import FairLowRankHeadClassifier, model_report

    X, y, sex, (network, head, held_out) = adult()
    clf = FairLowRankHeadClassifier(
        pretrained(torch.from_numpy(X[network]), torch.from_numpy(y[network])),
        constraint="demographic_parity",
        difference_bound=0.05,
        confidence=0.95,
        solver="plug_in",
        random_state=0,
    ).fit(X[head], y[head], sensitive_features=sex[head])

    folder.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(2, len(COLUMNS))
    rows = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(clf.to_torch(), (example,), dynamic_shapes=(rows,))
    torch.export.save(program, folder / "model.pt2")
    report = model_report(clf, X[held_out], y[held_out], sensitive_features=sex[held_out])
    facts = {
        "columns": COLUMNS,
        "classes": clf.classes_.tolist(),
        "score": f"above 0 for the class {clf.classes_[1]}",
        "constraint": clf.constraint,
        "measured": measured(report, clf.constraint),
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return clf


def pretrained(X: Tensor, y: Tensor) -> nn.Module:
    """Return a small network without its last layer; it standardizes its columns itself."""
    torch.manual_seed(0)
    body = [nn.BatchNorm1d(X.shape[1], affine=False), nn.Linear(X.shape[1], 32), nn.ReLU()]
    network = nn.Sequential(*body, nn.Linear(32, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for rows in torch.randperm(len(X)).split(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
        optimizer.step()
    return network[:-1].eval()


def measured(report: Any, constraint: str) -> dict[str, Any]:
    """Return accuracy and distance of a `ModelReport` with their 95 % intervals."""
    table = report.fairness.to_frame()
    error = table.query("scope == 'overall' and metric == 'error'").iloc[0]
    distance = report.fairness.headline.loc[f"{constraint}_distance"]
    accuracy = {"value": 1 - error["value"], "low": 1 - error["high"], "high": 1 - error["low"]}
    return {
        "rows": int(report.counts.to_numpy().sum()),
        "accuracy": accuracy,
        f"{constraint}_distance": distance.to_dict(),
    }


def open_model(folder: Path) -> Model:
    """Read what `build` wrote. It needs torch alone, and so does what is served."""
    program = torch.export.load(folder / "model.pt2").module()
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))

    def scores(X: Tensor) -> Tensor:
        with torch.inference_mode():  # of this thread, so not set once for all
            return program(X)

    return Model(scores, facts)


def make_app(model: Model) -> FastAPI:
    """Return the server's application for an opened model."""
    app = FastAPI(title="A fair head")
    columns, classes = model.facts["columns"], model.facts["classes"]
    # strict: what is a number to JSON, no text such as "39" and no true.
    number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
    row = Annotated[list[number], Field(min_length=len(columns), max_length=len(columns))]
    rows = Annotated[list[row], Field(min_length=1, max_length=MOST_ROWS)]
    Rows = create_model("Rows", __config__=ConfigDict(extra="forbid"), rows=(rows, ...))

    @app.exception_handler(RequestValidationError)
    def say(request: Request, error: RequestValidationError) -> JSONResponse:
        # FastAPI's own answer repeats what was sent: all of it, and NaN, which JSON cannot hold.
        found = [
            {"at": ".".join(map(str, each["loc"][1:])), "error": each["msg"]}
            for each in error.errors()
        ]
        detail: dict[str, Any] = {"errors": found[:MOST_ERRORS], "columns": columns}
        if len(found) > MOST_ERRORS:
            detail["more_errors"] = len(found) - MOST_ERRORS
        return JSONResponse({"detail": detail}, status_code=422)

    @app.get("/model")
    def describe() -> dict[str, Any]:
        return model.facts

    # Not async: FastAPI then calls it in a thread of its own, and torch, which computes without
    # Python's lock, keeps neither the server nor other requests waiting.
    @app.post("/predict")
    def predict(given: Rows) -> list[dict[str, Any]]:
        scores = model.scores(torch.tensor(given.rows, dtype=torch.float32))
        if not scores.isfinite().all():
            row = int((~scores.isfinite()).nonzero()[0])
            raise HTTPException(
                422, f"The score of row {row} is not finite: its numbers are too large."
            )
        return [{"class": classes[score > 0], "score": score} for score in scores.tolist()]

    return app


def main() -> None:
    """Train or serve, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["train", "serve"])
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--port", type=int, default=8000, help="0 takes one that is free")
    arguments = parser.parse_args()
    if arguments.action == "train":
        build(arguments.folder)
        return
    # Requests run beside each other already; more threads for each would be in each other's way.
    torch.set_num_threads(1)
    # One process. For more, start this command again on other ports, behind a proxy that also
    # limits the size of a request: a process forked off one in which torch ran may hang.
    app = make_app(open_model(arguments.folder))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()
