"""Features, labels, weights and groups as one noun, read in blocks.

Must not know what is summed.
"""
