"""Rows of any kind through a frozen module.

Must not know labels or groups.
"""
