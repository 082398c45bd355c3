"""What proxies, judges and their clients say to each other, without I/O.

A handshake is a generator that looks as if it blocked: it yields a step, its driver carries the step out and sends back
the bytes received (`b""` after a `Send`), and the generator returns its result. The same steps serve both sides of
every protocol, so a test is a transcript of them. `net.connection` and `net.channel` drive them.

================  =============================================  ==========================================
module            protocol                                       sides
================  =============================================  ==========================================
`steps`           the steps, and how texts stand on the wire     both
`http`            CONNECT and Basic credentials (RFC 9110, 7617) the client's; the gateway is the other one
`socks4`          SOCKS4 and SOCKS4A                             both
`socks5`          SOCKS5 (RFC 1928, 1929)                        both
`judge`           a question of how a request arrives            both
`retry_after`     when a response asks to come back              the client's
================  =============================================  ==========================================

Rules: a handshake never sees a socket, and asks for no byte beyond its own end, since what follows belongs to the
tunnel. What a stranger sent is shown in part, in printable ASCII, and not at all where it may echo a credential.
"""
