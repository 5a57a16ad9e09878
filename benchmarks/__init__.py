"""Measurements against plain nats-py, as ratios within one run."""
