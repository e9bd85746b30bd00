"""Benchmarks: ratios against the bare clients, measured in one run on one machine."""
