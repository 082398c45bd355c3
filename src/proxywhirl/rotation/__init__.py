"""Choose a proxy for each request and learn from what became of it; in memory, without I/O."""
