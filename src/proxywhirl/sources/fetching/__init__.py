"""How a source is fetched: within bounds, from where it may be, and whole or not at all."""
