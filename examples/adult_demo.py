"""The main job on real data: fair low-rank heads on a network pre-trained on Adult.

60 % of UCI Adult pre-train a small ReLU network; the other 40 % are the new task,
40 % of which are its test rows. On the frozen network the table compares

- TL: the layer retrained at full rank, without factors;
- f+SVD: cut to low rank by a plain SVD, then fine-tuned;
- paper: cut by the SVD weighted with neutralized Fisher importance, then fine-tuned;
- search: the paper's method with its rank chosen by GridSearchCV,

once for the last layer (64 x 2) and once for the hidden layer before it (64 x 64).

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
    FairnessTradeoffDisplay,
    FisherImportanceDisplay,
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


def pretrain(X: np.ndarray, y: np.ndarray, seed: int) -> nn.Sequential:
    """Train a ReLU network of two hidden layers, as anyone's backbone might be trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            *(nn.Linear(X.shape[1], WIDTH), nn.ReLU()),
            *(nn.Linear(WIDTH, WIDTH), nn.ReLU()),
            nn.Linear(WIDTH, 2),
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
            classifier(), {"rank": ranks}, scoring=scoring, refit="error", cv=3, n_jobs=2
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
    context = {"fitted": fitted, "X": inputs[test], "y": labels[test], "sex": sex[test]}
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

    return pd.DataFrame(
        {
            "Err (%)": cell("Err", 2),
            "ΔDP": cell("DDP", 3),
            "ΔEO": cell("DEO", 3),
            "importance cosine": mean["cosine"].map("{:.3f}".format),
            "rank": mean["rank"].map("{:.3g}".format),
            "trainable parameters": mean["parameters"].map("{:.0f}".format),
            "seconds": mean["seconds"].map("{:.2f}".format),
        }
    ).reset_index()


def draw_tradeoff(rows: list[dict]) -> Figure:
    """Draw error against disparity, one panel per layer, bars of one standard deviation."""
    frame = pd.DataFrame(rows)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), sharey=True, layout="constrained")
    for ax, (layer, part) in zip(axes, frame.groupby("layer", sort=False), strict=True):
        grouped = part.groupby("system", sort=False)[["Err", "DDP"]]
        mean, std = grouped.mean(), grouped.std().fillna(0.0)
        FairnessTradeoffDisplay(
            names=mean.index,
            error=mean["Err"],
            disparity=mean["DDP"],
            error_interval=np.column_stack([mean["Err"] - std["Err"], mean["Err"] + std["Err"]]),
            disparity_interval=np.column_stack(
                [mean["DDP"] - std["DDP"], mean["DDP"] + std["DDP"]]
            ),
        ).plot(ax=ax)
        ax.set_title(f"{layer}, {frame['seed'].nunique()} seeds", fontsize="medium")
    return figure


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
    rows: list[dict] = []
    contexts: list[dict] = []
    with tqdm(total=8 * options.seeds, unit="fit") as bar:
        for seed in range(options.seeds):
            new, context = run(seed, frame, bar)
            rows += new
            contexts.append(context)
    first = contexts[0]
    result = table(rows)
    print(f"\nAdult, test rows of the new task ({len(first['y']):,}), {options.seeds} seed(s)\n")
    print(result.to_string(index=False))
    print(
        "\nErr is 100 - weighted F1; ΔDP and ΔEO are the distances between women and men.\n"
        "Importance cosine: between the importances of women and men. Seconds are those of fit;\n"
        "for the search, of all its fits.\n"
    )
    shown = first["fitted"]["hidden 64x64", "paper, rank 2"]
    report = fairness_report(
        first["y"],
        shown.predict(first["X"]),
        sensitive_features=pd.Series(first["sex"], name="sex"),
        random_state=0,
    )
    print("Fairness report of the paper's method on the hidden layer (first seed)\n")
    print(report)

    draw_tradeoff(rows).savefig(options.output / "tradeoff.png", dpi=150)
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
