"""The transport for httpx clients: every request goes through a proxy of the pool.

`transport` has the face and carries out what `rotation.retries.pursuit` asks for. Each attempt is an `exchange`: its
lease and its connection, to the last byte of the response. `connections` keeps a set of connections for each proxy,
`request` reads what a request wishes.

Beside the rules of `rotation.retries`:

- An attempt on a kept connection that turns out to be closed does not count as one at its proxy.
- Another proxy is tried until the caller has been given the first byte of a response, and while the body is in memory.
- A 407 on a request that the proxy forwards itself means that nothing reached the target: the request is tried again
  with any method, and the 407 is never handed on.
- No environment variable changes any of this.
"""

from proxywhirl.integrations.httpx.transport import WhirlTransport

__all__ = ["WhirlTransport"]
