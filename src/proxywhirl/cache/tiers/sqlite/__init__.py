"""The tier in an SQLite file."""
