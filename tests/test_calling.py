"""What a module takes, also where torch's own wrappers hide it."""

import numpy as np
import pytest
import torch
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.backbone.feature_module import FeatureModule


class OneDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.layer(batch["x"]) * batch["scale"]


def parts(rows):
    x = torch.tensor(np.asarray(rows), dtype=torch.float32)
    return {"x": x, "scale": torch.ones(len(x), 1)}


WRAPPERS = {
    "none": lambda module: module,
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "parallel": nn.DataParallel,
    "both": lambda module: nn.DataParallel(torch.compile(module, backend="eager")),
    "scripted": torch.jit.script,
}


@pytest.mark.filterwarnings("ignore:.*(deprecated|jit).*")
@pytest.mark.parametrize("wrapper", WRAPPERS)
class TestWrapped:
    @pytest.mark.some(2)
    def test_one_mapping_is_taken_before_and_after_deployment(self, wrapper):
        module = OneDict()
        X = np.random.default_rng(0).normal(size=(40, 3))
        extractor = FrozenFeatureExtractor(
            WRAPPERS[wrapper](module), preprocess=parts, memory=False
        )
        expected = module(parts(X)).detach().numpy()
        np.testing.assert_allclose(extractor.fit_transform(X), expected, rtol=1e-5, atol=1e-6)
        y, s = (X[:, 0] > 0).astype(int), np.arange(40) % 2
        clf = FairLowRankHeadClassifier(extractor, rank=1).fit(X, y, sensitive_features=s)
        # A copy of a script has no Python signature any more.
        scores = clf.to_torch()(**parts(X)).detach().numpy()
        np.testing.assert_allclose(scores, clf.decision_function(X), rtol=1e-4, atol=1e-5)

    def test_by_name_goes_by_name(self, wrapper):
        module = nn.Linear(3, 2)
        x = torch.ones(5, 3)
        assert torch.equal(FeatureModule(WRAPPERS[wrapper](module))(input=x), module(x))
