"""A simulated world of proxies and sites, and a race of ways to choose in it."""
