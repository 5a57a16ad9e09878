"""Rules on agents, proven with a caller that is nothing but raw JSON documents."""
