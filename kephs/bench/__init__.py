"""Benchmarks: every figure beside a baseline that ran in the same minute on the same machine."""
