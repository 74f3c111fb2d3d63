"""ResNet-18 in plain torch, with torchvision's names of weights."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

# Of torchvision's weights. They were trained at 224 pixels, but faces have 150 at most here, and
# 224 would take three times as long as 128.
IMAGENET = {"size": 128, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h / stride, w / stride)."""
        around = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(x)) + around).relu()


class ResNet18(nn.Module):
    """The network of He et al. 2016; its feature is the pooled output before ``fc``."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [64, 64, 128, 256, 512]
        for i in range(1, 5):
            stride = 1 if i == 1 else 2
            blocks = [Block(widths[i - 1], widths[i], stride), Block(widths[i], widths[i], 1)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.fc = nn.Linear(512, n_outputs)

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled maps (n, 512) of images (n, 3, h, w)."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.fc(self.features(x))


def load_resnet18(path: str | os.PathLike[str]) -> tuple[ResNet18, dict[str, Any]]:
    """Return the network of a weights file, and what it takes.

    Parameters
    ----------
    path : str or path-like
        Either torchvision's ``resnet18-f37072fd.pth``, a state_dict alone, or a dict of a
        ``state_dict`` (of any precision) and ``input``.

    Returns
    -------
    model : ResNet18
        In evaluation mode, float32.
    wanted : dict
        The ``size`` of images, and the ``mean`` and ``std`` of their channels.
    """
    saved = torch.load(path, map_location="cpu", weights_only=True)
    weights, wanted = saved, IMAGENET
    if "state_dict" in saved:
        weights, wanted = saved["state_dict"], saved["input"]
    model = ResNet18(len(weights["fc.bias"]))
    # The file may hold half precision; what counts batches (num_batches_tracked) stays an integer.
    model.load_state_dict(weights)
    return model.eval(), dict(wanted)
