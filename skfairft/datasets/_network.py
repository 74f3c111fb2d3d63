"""A small network on UCI Adult, for the gallery's pages to freeze and build on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike
    from torch import nn

__all__ = ["make_adult_network"]


def make_adult_network(
    X: pd.DataFrame, y: ArrayLike, *, max_epochs: int = 3
) -> tuple[Any, nn.Sequential]:
    """Train an encoder and a small network on rows of Adult, to stand in for your backbone.

    Three layers with ReLU between them, trained with Adam at a learning rate of 0.001 and batches
    of 256 rows: a few seconds. Weights and batches are drawn with a seed of 0.

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
        Fitted: categories as columns of 0 and 1, numbers standardized. Its rows are what the
        network takes, once they are float32.
    network : nn.Sequential
        Two layers of 64 units with ReLU, and the output layer: five modules.

    Examples
    --------
    >>> import torch
    >>> from skfairft.datasets import fetch_adult, make_adult_network
    >>> X, y, _ = fetch_adult(return_X_y_s=True)
    >>> encoder, network = make_adult_network(X[:500], y[:500], max_epochs=1)
    >>> rows = torch.from_numpy(encoder.transform(X[500:503]).astype("float32"))
    >>> network[:4](rows).shape  # without the output layer
    torch.Size([3, 64])
    """
    # Slow to import, and no other data set needs them.
    import torch
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from skorch import NeuralNetClassifier
    from torch import nn

    encoder = make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            X.select_dtypes("category").columns,
        ),
        remainder=StandardScaler(),
    )
    inputs = encoder.fit_transform(X).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
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
        ).fit(inputs, np.asarray(y))
    return encoder, net.module_
