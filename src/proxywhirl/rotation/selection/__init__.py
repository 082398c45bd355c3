"""Which proxies may serve a request, and which one does."""
