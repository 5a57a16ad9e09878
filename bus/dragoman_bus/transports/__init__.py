"""Transports: the one port the rest of Dragoman needs, and its implementations."""
