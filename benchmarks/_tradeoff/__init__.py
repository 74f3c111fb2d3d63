"""Parts of the benchmark `benchmarks/tradeoff.py`: data, methods, runs and scores."""
