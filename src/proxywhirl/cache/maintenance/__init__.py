"""What keeps a store whole: checks, repairs, moves, transfers, periodic work."""
