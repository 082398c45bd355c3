"""Rotation inside other HTTP clients: one thin file for each."""
