"""Durable records beside the cache, and the one way in which a database file is opened."""
