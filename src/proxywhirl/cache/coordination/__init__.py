"""How the three tiers work together: reads, promotion, replication, failures."""
