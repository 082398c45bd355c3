"""What is known of each site: bans, limits, estimates."""
