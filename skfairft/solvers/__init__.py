"""A file for each way to meet a constraint, and the search for a bound.

Must not know metadata routing or displays.
"""
