"""Does work in tandem pay? Real ensembles over recorded or simulated answers, goals beside figures.

Run: ``make collective``, or ``python -m benchmarks.collective --help``.
"""
