"""Which rows ran already: their features by key, and whether what is stored still holds.

Must not know what a feature means.
"""

from ..inputs.exceptions import FeatureStoreWarning
from .base import StoreInfo
from .choose import Store, get_store
from .disk import DiskStore
from .memory import MemoryStore

__all__ = ["DiskStore", "FeatureStoreWarning", "MemoryStore", "Store", "StoreInfo", "get_store"]
