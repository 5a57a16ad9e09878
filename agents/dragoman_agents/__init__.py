"""Agents: functions and models served as skills on the bus."""
