"""Seconds of Algorithm 1, step by step, as sizes double: exponents beside those derived.

The steps are the Fisher information of a layer (Eq. 1), the neutral importance (Eq. 2), the
weighted singular value decomposition (Eqs. 3 and 4), an epoch of the thin layer, and what several
layers cost: their second moments and gradients, and cuts in turn, which run the cut network again
for each stage. Of each step one size at a time is doubled, the others fixed so large that what
grows with it dominates; the exponent is that of the least squares line through the logarithms of
the medians.

Run ``python benchmarks/complexity.py [--json FILE] [--markdown FILE]`` with nothing else running;
``--smoke`` is small.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _shared.timing import exponent, in_turn, machine
from torch import nn

from skfairft import compress
from skfairft.lowrank.cut import cut_layer
from skfairft.lowrank.factorization import neutralize, weighted_svd
from skfairft.lowrank.fisher import layer_fisher
from skfairft.lowrank.layer import LowRankHead
from skfairft.lowrank.maps import LayerMap
from skfairft.lowrank.network import LayerStatistics
from skfairft.rows.tensor_rows import TensorRows

Action = Callable[[], Any]


@dataclass(frozen=True)
class Step:
    """A step, the sizes that it has where they are fixed, and how it is to grow with each."""

    make: Callable[..., Action]
    sizes: dict[str, int]
    derived: dict[str, tuple[float, str]]  # of each size: the exponent, and the term


def rows_of(n: int, d: int, k: int, groups: int) -> TensorRows:
    """Return made-up rows."""
    generator = torch.Generator().manual_seed(0)
    Z = torch.randn(n, d, generator=generator)
    y = torch.randint(k, (n,), generator=generator)
    return TensorRows(Z, y, torch.ones(n), torch.arange(n) % groups)


def fisher(n: int, d: int, k: int, groups: int) -> Action:
    """Eq. 1: the layer's outputs, their gradients, and sums of squares."""
    rows, W = rows_of(n, d, k, groups), torch.randn(d, k).double()
    return lambda: layer_fisher(rows, n_groups=groups, layer=lambda Z: Z @ W)


def neutral(d: int, groups: int) -> Action:
    """Eq. 2."""
    importance, shares = (
        torch.rand(groups, d).double(),
        torch.full((groups,), 1.0 / groups).double(),
    )
    return lambda: [neutralize(importance, shares) for _ in range(20)]


def svd(d: int, k: int) -> Action:
    """Eqs. 3 and 4."""
    W, importance = torch.randn(d, k).double(), torch.rand(d).double() + 0.1
    return lambda: weighted_svd(W, importance).factors(8)


def epoch(n: int, d: int, k: int, r: int) -> Action:
    """Forward and backward of the thin layer over all rows, in batches."""
    rows = rows_of(n, d, k, 2)
    head = LowRankHead(torch.randn(d, r) / d, torch.randn(r, k), torch.zeros(k))

    def run() -> None:
        for Z, y in zip(rows.Z.split(512), rows.y.split(512), strict=True):
            nn.functional.cross_entropy(head(Z), y).backward()
        head.zero_grad()

    return run


def moments(n: int, positions: int, d: int, k: int, groups: int) -> Action:
    """Take second moments of the narrower side of a layer on tokens, and of gradients."""
    layer, codes = nn.Linear(d, k), torch.arange(n) % groups
    Z, h = torch.randn(n, positions, d), torch.randn(n, positions, k)
    with torch.no_grad():
        output = layer(Z)

    def run() -> None:
        seen = LayerStatistics(LayerMap(layer), groups, gradients=True)
        for part in torch.arange(n).split(64):
            seen.update(Z[part], output[part], codes[part])
            seen.update_gradients(None, h[part], codes[part])

    return run


def cut(m: int, groups: int) -> Action:
    """Cut a layer of m to m, its moments at hand."""
    layer = nn.Linear(m, m)
    seen = LayerStatistics(LayerMap(layer), groups, gradients=True)
    Z, codes = torch.randn(2_000, m), torch.arange(2_000) % groups
    seen.update(Z, layer(Z), codes).update_gradients(None, torch.randn(2_000, m), codes)
    shares = torch.full((groups,), 1.0 / groups)
    return lambda: cut_layer(seen, 8, importance="kfac", shares=shares)


def in_turn_of(layers: int, n: int) -> Action:
    """Cut a network of layers of 128 to 128 in turn, each behind those before."""
    parts = [part for _ in range(layers) for part in (nn.Linear(128, 128), nn.Tanh())]
    model, X, s = nn.Sequential(*parts), torch.randn(n, 128), torch.arange(n) % 2
    return lambda: compress(model, X, sensitive_features=s, rank=8, group_weights=None)


STEPS = {
    "Fisher information (Eq. 1)": Step(
        fisher,
        {"n": 20_000, "d": 512, "k": 256, "groups": 2},
        {"n": (1, "n d (k + G)"), "d": (1, "n d (k + G)"), "k": (1, "n d k")},
    ),
    "neutral importance (Eq. 2)": Step(
        neutral, {"d": 200_000, "groups": 16}, {"d": (1, "G d"), "groups": (1, "G d")}
    ),
    "weighted SVD (Eqs. 3, 4)": Step(
        svd, {"d": 1_024, "k": 256}, {"d": (1, "d k min(d, k)"), "k": (2, "d k min(d, k)")}
    ),
    "an epoch of the thin layer": Step(
        epoch,
        {"n": 8_192, "d": 1_024, "k": 1_024, "r": 128},
        {
            "n": (1, "n r (d + k)"),
            "d": (1, "n r (d + k), half of it"),
            "r": (1, "n r (d + k)"),
        },
    ),
    "moments of a layer on tokens": Step(
        moments,
        {"n": 256, "positions": 32, "d": 512, "k": 512, "groups": 2},
        {
            "n": (1, "n T (m² + m k)"),
            "positions": (1, "n T (m² + m k)"),
            "groups": (0, "none, but G m² of memory"),
        },
    ),
    "cut of a layer": Step(
        cut,
        {"m": 512, "groups": 2},
        {"m": (3, "m³ (G + a dozen)"), "groups": (1, "m³ (G + a dozen)")},
    ),
    "a network cut in turn": Step(
        in_turn_of,
        {"layers": 8, "n": 4_000},
        {"layers": (2, "L passes of L / 2 thin layers"), "n": (1, "n")},
    ),
}


def measured(small: bool) -> list[dict[str, Any]]:
    """Return a row for each step and size."""
    found = []
    for name, step in STEPS.items():
        fixed = (
            {key: max(2, size // 64) for key, size in step.sizes.items()} if small else step.sizes
        )
        for size, (expected, term) in step.derived.items():
            sizes = [fixed[size] * factor for factor in (1, 2, 4)]
            systems = {str(each): step.make(**fixed | {size: each}) for each in sizes}
            seconds = [median(each) for each in in_turn(systems, 1 if small else 5).values()]
            found.append(
                {
                    "step": name,
                    "by": size,
                    "term": term,
                    "sizes": sizes,
                    "seconds": seconds,
                    "exponent": exponent(sizes, seconds),
                    "derived": expected,
                }
            )
            print(found[-1], flush=True)
    return found


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table."""
    lines = ["| step | by | from, to | seconds | term | derived | measured |", "|---" * 7 + "|"]
    for row in rows:
        ends = (f"{row['sizes'][i]:,}" for i in (0, -1))
        times = (f"{row['seconds'][i]:.2g}" for i in (0, -1))
        lines.append(
            f"| {row['step']} | {row['by']} | {', '.join(ends)} | {', '.join(times)} | "
            f"{row['term']} | {row['derived']:g} | {row['exponent']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all rows and the machine")
    parser.add_argument("--markdown", type=Path, help="write the table")
    parser.add_argument("--smoke", action="store_true", help="small")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measured(options.smoke)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(rows))
    else:
        print(markdown(rows))


if __name__ == "__main__":
    main()
