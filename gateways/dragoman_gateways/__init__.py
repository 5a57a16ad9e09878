"""Gateways: ways onto the bus from outside, among them the command line."""
