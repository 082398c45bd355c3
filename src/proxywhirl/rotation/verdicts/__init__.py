"""What an answer says about the proxy that brought it."""
