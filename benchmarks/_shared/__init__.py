"""What several benchmarks share: backbones, and features of faces."""
