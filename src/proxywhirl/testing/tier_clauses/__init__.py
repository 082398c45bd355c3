"""The clauses of the tier contract, a room for each part of the protocol; `proxywhirl.testing.tiers` joins them."""
