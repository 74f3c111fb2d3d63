"""Whether two processes that average the gradients of their own rows train the head of all rows.

That is what ``torchrun``, accelerate and torch's DistributedDataParallel do. A linear head on 2,000
rows of 20 features, by two processes over gloo, each with its part of the rows, beside one process
with all of them. The penalty is the squared difference of the groups' mean probabilities. Measured
is how far the weights end from those of one process.

Run ``python -m _scaling.shards [--json FILE]`` in ``benchmarks/``.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from _shared.timing import machine
from torch import Tensor, multiprocessing, nn

from skfairft.datasets import make_biased_classification

N = 2000
Rows = tuple[Tensor, Tensor, Tensor]
# Optimizer, strength of the penalty, rows of the first process.
CASES = [("SGD", 0.0, 1000), ("SGD", 0.0, 1200), ("SGD", 1.0, 1000), ("L-BFGS", 0.0, 1000)]


def rows() -> Rows:
    """Return features, classes and groups."""
    X, y, s = make_biased_classification(N, 20, disparity=0.4, random_state=0)
    return torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(s)


def loss(head: nn.Module, part: Rows, penalty: float) -> Tensor:
    """Return the objective of some rows by themselves."""
    X, y, s = part
    logits = head(X)
    p = logits.softmax(1)[:, 1]
    apart = p[s == 1].mean() - p[s == 0].mean()
    return nn.functional.cross_entropy(logits, y) + penalty * apart**2


def train(head: nn.Module, part: Rows, optimizer: str, penalty: float) -> None:
    """Train for 300 steps of gradient descent, or by L-BFGS to its end."""
    step: Any = torch.optim.SGD(head.parameters(), lr=0.5)
    if optimizer == "L-BFGS":
        step = torch.optim.LBFGS(
            head.parameters(), max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-9
        )

    def closure() -> Tensor:
        step.zero_grad()
        value = loss(head, part, penalty)
        value.backward()
        return value

    for _ in range(1 if optimizer == "L-BFGS" else 300):
        step.step(closure)


def start() -> nn.Linear:
    """Return the head that all begin with."""
    head = nn.Linear(20, 2).double()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def one_of_two(rank: int, case: tuple[str, float, int], port: int, folder: str) -> None:
    """Train with a part of the rows, and save the weights, or what went wrong."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=20))
    optimizer, penalty, cut = case
    own = slice(0, cut) if rank == 0 else slice(cut, None)
    head = nn.parallel.DistributedDataParallel(start())
    part = tuple(column[own] for column in rows())
    found: Any
    try:
        train(head, part, optimizer, penalty)
        found = head.module.weight.detach()
    except Exception as error:  # of gloo, of a process that waits for one that is done
        found = type(error).__name__
    torch.save(found, Path(folder) / f"{rank}.pt")
    os._exit(0)  # the other may not come to a common end


def measured(case: tuple[str, float, int]) -> dict[str, Any]:
    """Return how far each of two processes is from one."""
    optimizer, penalty, cut = case
    whole = start()
    train(whole, rows(), optimizer, penalty)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        spawn: Callable[..., Any] = multiprocessing.get_context("spawn").Process
        both = [spawn(target=one_of_two, args=(rank, case, port, folder)) for rank in (0, 1)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        ends = [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]
    return {
        "optimizer": optimizer,
        "penalty": penalty,
        "rows": [cut, N - cut],
        "apart": [
            end if isinstance(end, str) else float((end - whole.weight).abs().max()) for end in ends
        ],
    }


def main() -> None:
    """Print what was found, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = []
    for case in CASES:
        found.append(measured(case))
        print(found[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
