"""What the gateway says to a client and to a proxy. Pure: events in, commands out.

`connection.ClientConnection` serves one client. It is a generator: it yields a command (`commands`), is sent the
answer, and so looks as if it waited, while it never does. `gateway.driver` carries the commands out with real
connections; a test writes both sides down as a transcript.

One client's connection:

==============  ===============================  ==========================================================
state           what comes                       then
==============  ===============================  ==========================================================
idle            bytes                            reading a head
idle            the end, or nothing for long     closed in order
reading a head  a whole head                     forwarding, or refused: 400, 407, 431, 501, 505
reading a head  nothing for long                 refused: 408
forwarding      a response, to its end           idle; closed in order where either side wants no more requests
forwarding      no attempt is left               refused: 502, 503, 504
forwarding      a fault of the client's body     refused: 400, 408
answered        the response breaks off          aborted: what was sent must not look whole
any             the client goes away             aborted
refused         the answer of the gateway's own  idle where all of the request came, else closed in order
==============  ===============================  ==========================================================

Forwarding is `failover`: it drives `rotation.retries.pursuit`, which names one proxy after another. Through each an
`attempt` is made: `Tunnel` for CONNECT, `Exchange` for any other request. `messages` is what changes in a message on
its way, `request` what the client sent and asks for.
"""
