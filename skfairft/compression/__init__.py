"""A trained model with thinner layers, cut such that every group counts.

Must not know estimators: a model here is a torch module, with its own head.
"""

from .attention import split_attention
from .compress import compress
from .lora import initialize_lora
from .report import CompressionReport, compression_report

__all__ = [
    "CompressionReport",
    "compress",
    "compression_report",
    "initialize_lora",
    "split_attention",
]
