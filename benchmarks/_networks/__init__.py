"""What `benchmarks/networks.py` cuts: three trained networks, their rows and groups."""
