"""The benchmark of the worst group: methods, the exact solver of group DRO, tables."""
