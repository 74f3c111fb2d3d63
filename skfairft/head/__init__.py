"""Where training starts, the modules of a head, and its training.

Must not know which solver asks.
"""
