"""Several agents as one: pure cores that decide, and agents that act on their decisions.

The modules here know neither the bus nor a clock nor chance: these come in as arguments, so the
same code runs in agents, in benchmarks and in tests. ``ensembles.agents`` puts it on the bus.
"""
