"""A small network on UCI Adult, which the gallery's pages freeze and build on."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn


def pretrained_network(
    X: pd.DataFrame, y: ArrayLike, *, max_epochs: int = 3
) -> tuple[Any, nn.Sequential]:
    """Fit an encoder and a network as the page "Adult, a quick start" does.

    Parameters
    ----------
    X : DataFrame of shape (n, 11)
        Rows of Adult, as `skfairft.datasets.fetch_adult` gives them.
    y : array-like of shape (n,)
        Labels, 0 or 1.
    max_epochs : int, default=3
        Passes of Adam over the rows.

    Returns
    -------
    encoder : ColumnTransformer
        Fitted; its rows are what the network takes, once they are float32.
    network : nn.Sequential
        Two layers of 64 units with ReLU, and the output layer: five modules.
    """
    encoder = make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            X.select_dtypes("category").columns,
        ),
        remainder=StandardScaler(),
    )
    inputs = encoder.fit_transform(X).astype(np.float32)
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(
            *(nn.Linear(inputs.shape[1], 64), nn.ReLU()),
            *(nn.Linear(64, 64), nn.ReLU()),
            nn.Linear(64, 2),
        ),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=256,
        max_epochs=max_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return encoder, net.fit(inputs, np.asarray(y)).module_
