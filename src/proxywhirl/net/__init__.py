"""The drivers of the network, in asyncio: dial through a proxy, relay bytes."""
