"""Parts of the benchmark `benchmarks/speed.py`: what is measured, beside what."""
