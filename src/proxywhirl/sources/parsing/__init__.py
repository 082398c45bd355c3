"""How a list is read. Pure."""
