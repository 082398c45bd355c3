"""The drivers of the network, in asyncio: dial through a proxy, relay bytes.

==============  ===========================================================================================
`dial`          a connection to a proxy or through it, within one deadline; who is to blame where that fails
`connection`    an open connection for traffic, over asyncio's streams
`channel`       the same for a probe, at the least cost: a bare socket whose bytes are counted, TLS over it
`relay`         bytes both ways between two connections
`capacity`      how many sockets there may be at once, and whether the event loop keeps up
==============  ===========================================================================================

Rules: what fails is translated here into the `UpstreamError` that names the proxy, without its credential, and blames
the right party. No socket outlives a failed or cancelled use. The handshakes themselves are in `wire`.
"""
