"""Where the proxies of a home come from: its sources (`registry`), and their fetching into the store (`supply`)."""
