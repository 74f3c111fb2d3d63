import pytest
import sklearn
import torch

# The tests' matrices are small: more threads only wait for each other.
torch.set_num_threads(1)


@pytest.fixture
def routing():
    """Switch scikit-learn's metadata routing on for one test."""
    with sklearn.config_context(enable_metadata_routing=True):
        yield
