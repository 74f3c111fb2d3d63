"""The table of constraints: moments, rates, distances, penalties, counts, intervals, words.

Must not know heads.
"""
