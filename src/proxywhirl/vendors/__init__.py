"""Vendors of proxies: how a session and a place are written into a credential, and what their refusals mean."""
