"""Benchmarks: figures as ratios to what this machine's signature check costs in the same run."""
