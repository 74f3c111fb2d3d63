"""The experiments: which tasks each runs on. What is computed is in `of_paper` and `beyond`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import beyond, of_paper
from .systems import Bench, Row
from .tasks import INTENSITIES, PENALTIES


@dataclass(frozen=True)
class Experiment:
    """Rows of one table or figure."""

    name: str
    title: str
    tasks: tuple[str, ...]
    rows: Callable[[Bench], Iterator[Row]]
    fits: bool = True  # whether C is needed


FACES_LAST = tuple(
    f"{what}, {backbone}, last"
    for what in ("lfw-male", "lfw-makeup", "celeba")
    for backbone in ("resnet18", "mobilenet_v2")
)
FACES_LAYER = tuple(f"{what}, resnet18, layer" for what in ("lfw-male", "lfw-makeup", "celeba"))
FAIR = tuple(f"adult, f_F {kind} {intensity}" for kind in PENALTIES for intensity in INTENSITIES)
LAYERS = ("adult", "adult, hidden layer", "celeba, resnet18, layer")

EXPERIMENTS = {
    each.name: each
    for each in (
        Experiment(
            "table1",
            "Table 1: the datasets",
            ("adult", *FACES_LAST),
            of_paper.statistics,
            fits=False,
        ),
        Experiment(
            "figure1",
            "Figure 1: representations by group",
            ("adult", *FAIR),
            of_paper.representations,
        ),
        Experiment(
            "figure3",
            "Figure 3: Fisher information by group",
            ("adult", *FAIR, *(name for name in FACES_LAST if "resnet18" in name)),
            of_paper.fisher_by_group,
        ),
        Experiment(
            "figure4",
            "Figure 4: TL, f+SVD and the paper's method",
            ("adult", "adult, hidden layer", *FACES_LAST, *FACES_LAYER),
            of_paper.main_comparison,
        ),
        Experiment(
            "table2",
            "Table 2: fair pre-trained models",
            ("adult", *FAIR),
            of_paper.fair_pretraining,
        ),
        Experiment(
            "table3",
            "Table 3: against constraints in fine-tuning",
            ("adult", "lfw-makeup, resnet18, last", "celeba, resnet18, last"),
            of_paper.against_penalties,
        ),
        Experiment("weights", "Ablation: the groups' weights", LAYERS, of_paper.group_weights),
        Experiment(
            "ranks",
            "Rank, parameters and seconds",
            (*LAYERS, "lfw-makeup, mobilenet_v2, layer"),
            of_paper.rank_sweep,
        ),
        Experiment(
            "many",
            "Several classes, several groups",
            (
                "hair, resnet18, last",
                "occupation",
                "separate signals",
                "adult by sex and race",
                "adult by sex and race, hidden layer",
                "celeba by sex and age, resnet18, layer",
            ),
            beyond.where_rank_bites,
        ),
        Experiment(
            "few",
            "Few training rows",
            (*LAYERS, "lfw-makeup, resnet18, layer", "lfw-male, resnet18, layer"),
            beyond.few_shot,
        ),
        Experiment(
            "budget",
            "The training budget",
            (*LAYERS, "lfw-makeup, resnet18, layer"),
            beyond.training_budget,
        ),
        Experiment(
            "reading",
            "The other reading: heads of each group",
            (
                "adult",
                *FAIR,
                *FACES_LAST,
                "adult by sex and race",
                "hair, resnet18, last",
                "separate signals",
            ),
            beyond.other_reading,
        ),
        Experiment(
            "fisher",
            "Which Fisher information, where",
            (*LAYERS, "hair, resnet18, last"),
            beyond.fisher_choices,
        ),
    )
}
