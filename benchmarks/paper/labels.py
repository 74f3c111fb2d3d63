"""Names of tasks and measures as readers see them."""

from __future__ import annotations

MEASURES = {"Err": "Err (%)", "DDP": "ΔDP", "DEO": "ΔEO"}
SYMBOLS = {"Err": "Err", "DDP": "ΔDP", "DEO": "ΔEO"}
DIGITS = {"Err": 2, "DDP": 3, "DEO": 3}

_BACKBONES = {"resnet18": ("ResNet-18", "512"), "mobilenet_v2": ("MobileNetV2", "1280")}
_FACES = {
    "lfw-male": "LFW+a, Male given Heavy_Makeup",
    "lfw-makeup": "LFW+a, Heavy_Makeup given Male",
    "celeba": "CelebA, Wavy_Hair given Male",
    "celeba by sex and age": "CelebA, Wavy_Hair given Male x Young",
    "hair": "CelebA, five hair colours given Male",
}
_OTHERS = {
    "adult": "Adult, last layer 10x2",
    "adult, hidden layer": "Adult, hidden layer 64x64",
    "adult by sex and race": "Adult, sex x race, last layer 10x2",
    "adult by sex and race, hidden layer": "Adult, sex x race, hidden layer 64x64",
    "occupation": "Adult, 14 occupations given sex, no network",
    "separate signals": "synthetic, six classes, separate signals",
}


def task_label(name: str) -> str:
    """Return what a task is called in tables and figures."""
    if name in _OTHERS:
        return _OTHERS[name]
    if "f_F" in name:
        return f"Adult, {name.split(', ')[1]}, last layer 10x2"
    what, backbone, layer = name.split(", ")
    network, width = _BACKBONES[backbone]
    if layer == "last":
        return f"{_FACES[what]}, {network}, last layer {width}x{5 if what == 'hair' else 2}"
    return f"{_FACES[what]}, {network}, pre-trained layer"


def bias_of(kind: str) -> str:
    """Return the measure that a penalty is for."""
    return {"DP": "DDP", "EO": "DEO"}[kind]
