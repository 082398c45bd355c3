"""Where the proxies of a home come from: its sources, what is remembered of them, and their fetching."""
