"""Chaos: everything is killed, paused and cut off, and a checker reads what the logs say."""
