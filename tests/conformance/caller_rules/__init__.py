"""Rules on callers, proven with an agent that is nothing but raw JSON documents."""
