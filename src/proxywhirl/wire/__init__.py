"""Proxy handshakes without I/O: generators that yield steps and are driven by `proxywhirl.net`."""
