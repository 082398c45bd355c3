"""How a list is fetched."""
