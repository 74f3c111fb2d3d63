"""A reproduction of the tables of arXiv:2403.00625."""
