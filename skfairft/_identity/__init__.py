"""What rows and modules are known by: the parts of `fingerprint` and `row_keys`."""
