"""MobileNetV2, a small backbone for images, without torchvision.

Written from the table of the paper, Sandler et al., *MobileNetV2: Inverted Residuals and Linear
Bottlenecks* (arXiv:1801.04381), with the names of torchvision's: a file of its weights loads
as it is.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

__all__ = ["MobileNetV2", "load_mobilenet_v2"]

# Table 2 of the paper: expansion t, channels c, blocks n, stride s of the first of them.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def convolution(channels: int, out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Module:
    """Return a convolution that keeps the size (up to its stride), normalized, and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(channels, out, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project back without activation (Figure 4d)."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.shortcut = stride == 1 and channels == out
        self.conv = nn.Sequential(
            *([convolution(channels, wide, 1)] if expansion > 1 else []),
            convolution(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (n, out, height / stride, width / stride)."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1: 3.5 million parameters.

    Parameters
    ----------
    num_classes : int, default=1000
        Outputs of the classifier.

    Examples
    --------
    >>> model = MobileNetV2().eval()
    >>> model(torch.zeros(2, 3, 96, 96)).shape
    torch.Size([2, 1000])
    >>> model.features(torch.zeros(2, 3, 96, 96)).shape  # a 32nd of the height and width
    torch.Size([2, 1280, 3, 3])
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        layers = [convolution(3, 32, 3, stride=2)]
        channels = 32
        for expansion, out, blocks, stride in BOTTLENECKS:
            for block in range(blocks):
                first = stride if block == 0 else 1
                layers.append(InvertedResidual(channels, out, expansion, first))
                channels = out
        self.features = nn.Sequential(*layers, convolution(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, 3, height, width)."""
        return self.classifier(self.features(x).mean((2, 3)))


def load_mobilenet_v2(path: str | os.PathLike[str]) -> nn.Module:
    """Return MobileNetV2 with the weights of a file.

    Parameters
    ----------
    path : str or path-like
        A state_dict with torchvision's names, such as its own ``mobilenet_v2-b0353104.pth``.
        What it was trained on: RGB between 0 and 1, minus (0.485, 0.456, 0.406), divided by
        (0.229, 0.224, 0.225), as `skfairft.preprocessing.ImageFiles` has it.

    Returns
    -------
    nn.Module
        In evaluation mode.
    """
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = MobileNetV2(num_classes=len(weights["classifier.1.bias"]))
    model.load_state_dict(weights)
    return model.eval()
