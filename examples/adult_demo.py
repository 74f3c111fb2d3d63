"""The main job on real data: fair low-rank heads on a network pre-trained on Adult.

60 % of UCI Adult pre-train a small ReLU network; the other 40 % are the new task,
40 % of which are its test rows. On the frozen network the table compares

- TL: the layer retrained at full rank, without factors;
- f+SVD: cut to low rank by a plain SVD, then fine-tuned;
- paper: cut by the SVD weighted with neutralized Fisher importance, then fine-tuned;
- search: the paper's method with its rank chosen by GridSearchCV,

once for the last layer (64 x 2) and once for the hidden layer before it (64 x 64); and on the
last layer

- bound: a head whose demographic parity distance is at most 0.05 with a confidence of 95 %, judged
  out of fold on the training rows, once with each solver.

The picture tradeoff.png has the whole path of the fairness weight on the first seed's test rows,
and TL, the paper's method and the bound as points on it.

Run ``python examples/adult_demo.py --output FOLDER --seeds 10``: each seed repeats all of
it, split and network included, for means and standard deviations.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sklearn
import torch
from matplotlib.figure import Figure
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn
from tqdm.auto import tqdm

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessPath,
    FairnessTradeoffDisplay,
    FisherImportanceDisplay,
    fairness_path,
    split_head,
)
from skfairft.datasets import fetch_adult
from skfairft.metrics import (
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    fairness_scorer,
    weighted_f1_error,
)

WIDTH = 64
RANKS = [1, 2, 4, 8]
BOUND = 0.05
# A two-class head has rank 1; the plug-in rule's, of two labels in two groups, has rank 3.
SOLVERS = {
    "plug_in": {"rank": 3},
    "fine_tune": {"rank": 1, "cv": 0.25},  # folds would train six times as many heads
    "closed_form": {"rank": 1, "importance": "covariance"},
}


def pretrain(X: np.ndarray, y: np.ndarray, seed: int, width: int = WIDTH) -> nn.Sequential:
    """Train a ReLU network of two hidden layers, as anyone's backbone might be trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            *(nn.Linear(X.shape[1], width), nn.ReLU()),
            *(nn.Linear(width, width), nn.ReLU()),
            nn.Linear(width, 2),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        inputs, labels = torch.from_numpy(X), torch.from_numpy(y)
        for _ in range(4):
            for rows in torch.randperm(len(inputs)).split(256):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
                optimizer.step()
    return model


def systems(model: nn.Sequential, seed: int) -> dict[tuple[str, str], object]:
    """Return the systems to compare, by layer and name."""
    last_extractor, last_head = split_head(model)
    hidden_extractor, hidden_head = model[:2], model[2:4]
    out: dict[tuple[str, str], object] = {}
    for layer, extractor, head, rank in (
        ("last 64x2", last_extractor, last_head, 1),
        ("hidden 64x64", hidden_extractor, hidden_head, 2),
    ):

        def classifier(extractor=extractor, head=head, **settings) -> FairLowRankHeadClassifier:
            clf = FairLowRankHeadClassifier(extractor, head=head, random_state=seed, **settings)
            return clf.set_fit_request(sensitive_features=True)

        out[layer, "TL"] = classifier(rank=None)
        out[layer, f"f+SVD, rank {rank}"] = classifier(rank=rank, importance="uniform")
        out[layer, f"paper, rank {rank}"] = classifier(rank=rank)
        scoring = {
            "error": fairness_scorer("weighted_f1_error"),
            "disparity": fairness_scorer("demographic_parity_distance"),
        }
        ranks = [r for r in RANKS if r <= min(head_shape(head))]
        out[layer, "paper, searched rank"] = GridSearchCV(
            classifier(), {"rank": ranks}, scoring=scoring, refit="error", cv=3
        )
    for solver, settings in SOLVERS.items():
        out["last 64x2", f"bound {BOUND}, {solver}"] = FairLowRankHeadClassifier(
            last_extractor,
            constraint="demographic_parity",
            difference_bound=BOUND,
            confidence=0.95,
            solver=solver,
            random_state=seed,
            **settings,
        )
    return out


def head_shape(head: nn.Module) -> tuple[int, int]:
    """Return inputs and outputs of a head's linear layer."""
    linear = head if isinstance(head, nn.Linear) else head[0]
    return linear.in_features, linear.out_features


def run(seed: int, frame: tuple, bar: tqdm) -> tuple[list[dict], dict]:
    """Pre-train, fit every system, and measure it on the test rows of one split."""
    X, y, s = frame
    sex = s["sex"].to_numpy()
    labels = y.to_numpy()
    cells = labels + 2 * (sex == "Female")
    pre, task = train_test_split(
        np.arange(len(y)), test_size=0.4, random_state=seed, stratify=cells
    )
    train, test = train_test_split(task, test_size=0.4, random_state=seed, stratify=cells[task])
    categorical = X.select_dtypes("category").columns
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categorical),
        remainder=StandardScaler(),
    ).fit(X.iloc[pre])
    inputs = encoder.transform(X).astype(np.float32)
    bar.set_description("pre-training")
    model = pretrain(inputs[pre], labels[pre], seed)
    rows, fitted = [], {}
    for (layer, name), system in systems(model, seed).items():
        bar.set_description(f"{layer}, {name}")
        start = time.perf_counter()
        system.fit(inputs[train], labels[train], sensitive_features=sex[train])
        seconds = time.perf_counter() - start
        best = getattr(system, "best_estimator_", system)
        predicted = best.predict(inputs[test])
        fitted[layer, name] = best
        groups = {"sensitive_features": sex[test]}
        rows.append(
            {
                "seed": seed,
                "layer": layer,
                "system": name,
                "Err": weighted_f1_error(labels[test], predicted),
                "DDP": demographic_parity_distance(labels[test], predicted, **groups),
                "DEO": equalized_odds_distance(labels[test], predicted, **groups),
                "rank": best.rank_,
                "cosine": cosine(best),
                "parameters": sum(p.numel() for p in best.head_.parameters()),
                "seconds": seconds,
            }
        )
        bar.update()
    context = {
        "fitted": fitted,
        "train": (inputs[train], labels[train], sex[train]),
        "test": (inputs[test], labels[test], sex[test]),
    }
    return rows, context


def cosine(clf: FairLowRankHeadClassifier) -> float:
    """Return the cosine between the two groups' importances; at 1, nothing is to neutralize."""
    display = FisherImportanceDisplay(
        group_importance=clf.group_importance_, importance=clf.importance_, groups=clf.groups_
    )
    return display.similarity.min()


def table(rows: list[dict]) -> pd.DataFrame:
    """Return the table of all systems: mean, and standard deviation over seeds if several."""
    grouped = pd.DataFrame(rows).groupby(["layer", "system"], sort=False)
    mean, std = grouped.mean(), grouped.std()

    def cell(column: str, digits: int) -> pd.Series:
        text = mean[column].map(f"{{:.{digits}f}}".format)
        if len(grouped.get_group(mean.index[0])) > 1:
            text += " ± " + std[column].map(f"{{:.{digits}f}}".format)
        return text

    return (
        pd.DataFrame(
            {
                "Err (%)": cell("Err", 2),
                "ΔDP": cell("DDP", 3),
                "ΔEO": cell("DEO", 3),
                "rank": mean["rank"].map("{:.3g}".format),
                "trainable parameters": mean["parameters"].map("{:.0f}".format),
                "seconds": mean["seconds"].map("{:.2f}".format),
            }
        )
        .sort_index(level="layer", ascending=False, sort_remaining=False, kind="stable")
        .reset_index()
    )


def whole_path(context: dict) -> FairnessPath:
    """Fit heads of all fairness weights to the last layer's features; measure on the test rows."""
    clf = FairLowRankHeadClassifier(
        context["fitted"]["last 64x2", "TL"].feature_extractor,
        constraint="demographic_parity",
        importance="covariance",
        random_state=0,
    )
    X, y, sex = context["train"]
    return fairness_path(
        clf,
        X,
        y,
        sensitive_features=sex,
        weights=11,
        solvers=list(SOLVERS),
        thresholds=1,  # thresholds searched on the test rows would look better than they are
        held_out=context["test"],
    )


def draw_tradeoff(path: FairnessPath, rows: list[dict]) -> Figure:
    """Draw the path, and systems of the same seed as points beside it."""
    frame = pd.DataFrame(rows).rename(columns={"Err": "error", "DDP": "difference"})
    frame = frame[(frame["seed"] == 0) & (frame["layer"] == "last 64x2")]
    bound = frame["system"].str.startswith("bound")
    frame["name"] = frame["system"].mask(bound, f"at most {BOUND}, with confidence")
    peers = frame[bound | frame["name"].isin(["TL", "paper, rank 1"])]
    display = FairnessTradeoffDisplay.from_path(path, peers=peers)
    display.ax_.set_title(
        f"Adult, last layer 64x2, seed 0: all points on the same {path.n_judged:,} test rows",
        fontsize="medium",
    )
    return display.figure_


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # figures go to files, with or without a screen
    warnings.filterwarnings("ignore", message="IProgress not found")
    sklearn.set_config(enable_metadata_routing=True)

    start = time.perf_counter()
    frame = fetch_adult(return_X_y_s=True)
    with tqdm(total=11 * options.seeds + 1, unit="fit") as bar:
        rows, first = run(0, frame, bar)
        bar.set_description("path")
        path = whole_path(first)
        bar.update()
        for seed in range(1, options.seeds):
            rows += run(seed, frame, bar)[0]
    result = table(rows)
    print(f"\nAdult, test rows of the new task ({path.n_judged:,}), {options.seeds} seed(s)\n")
    print(result.to_string(index=False))
    print(
        "\nErr is 100 - weighted F1; ΔDP and ΔEO are the distances between women and men.\n"
        "Seconds are those of fit; for the search and the bound, of all the fits inside.\n"
        f"bound: ΔDP of at most {BOUND} with confidence 0.95, judged out of fold "
        "(fine_tune: on a quarter held out).\n"
    )
    of_paper = pd.DataFrame([row for row in rows if row["system"].startswith("paper, rank")])
    cosines = of_paper.groupby("layer", sort=False)["cosine"].mean()
    print(
        "Cosine between the importances of women and men (1: nothing to neutralize):",
        ", ".join(f"{layer}: {value:.3f}" for layer, value in cosines.items()),
        "\n",
    )
    X, y, sex = first["test"]
    shown = first["fitted"]["hidden 64x64", "paper, rank 2"]
    report = fairness_report(
        y,
        shown.predict(X),
        sensitive_features=pd.Series(sex, name="sex"),
        random_state=0,
    )
    print("Fairness report of the paper's method on the hidden layer (first seed)\n")
    print(report)

    draw_tradeoff(path, rows).savefig(options.output / "tradeoff.png", dpi=150)
    importance = FisherImportanceDisplay.from_estimator(shown)
    importance.figure_.savefig(options.output / "importance.png", dpi=150)
    (options.output / "report.html").write_text(report.to_html(), encoding="utf-8")
    (options.output / "results.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(
        f"\nWrote tradeoff.png, importance.png, report.html and results.json to "
        f"{options.output.resolve()} ({time.perf_counter() - start:.0f} s in all)."
    )


if __name__ == "__main__":
    main()
