"""Agents in processes of their own, killed and restarted."""
