"""How fast a large list of proxies is checked, beside the same job done with aiohttp."""
