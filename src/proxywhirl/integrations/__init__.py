"""Rotation inside other HTTP clients: a folder for each. `httpx` is for httpx2."""
