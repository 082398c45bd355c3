"""The strategies that come with ProxyWhirl: one file for each idea."""
