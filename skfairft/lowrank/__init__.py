"""Statistics of a layer, the metric that they make, the weighted SVD, the low-rank layer.

Must not know names of groups, scikit-learn or solvers.
"""
