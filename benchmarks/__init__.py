"""Measurements beside what else there is, as ratios within one run; see docs/benchmarks.md."""
