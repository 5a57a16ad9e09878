"""Tests against a three-node NATS cluster in containers."""
