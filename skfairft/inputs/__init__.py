"""Columns of any library as codes and numbers; what is refused, and in which words.

Must not know torch modules or constraints.
"""
