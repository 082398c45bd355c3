"""The tiers: what one is, and the three that are built in."""
