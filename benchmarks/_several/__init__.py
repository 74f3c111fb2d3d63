"""Bounds on ratios and several bounds at once: who keeps them, and what of it is shown."""
