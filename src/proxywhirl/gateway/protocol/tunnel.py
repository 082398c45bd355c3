"""A CONNECT request through one proxy: a tunnel, then bytes both ways (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import h11

from proxywhirl.errors import TargetUnreachable
from proxywhirl.gateway.protocol.attempt import Attempt
from proxywhirl.gateway.protocol.commands import Dial, Relay, Steps, WriteClient, WriteUpstream


class Tunnel(Attempt):
    """Open the tunnel, tell the client, carry what it sends."""

    def steps(self) -> Steps[None]:
        """Serve the request.

        Raises:
            UpstreamError: No tunnel came to be, or one that gave nothing back.
        """
        yield Dial(self.request.destination.target, self._patience())
        self._answered()
        self.status = 200
        yield from self._accept()
        up, down = yield Relay(self.limits.idle)
        self.bytes_up += up
        self.bytes_down = down
        if self.bytes_up and not self.bytes_down:
            raise TargetUnreachable(f"{self.proxy.url} opened a tunnel through which nothing came back")

    def _accept(self) -> Steps[None]:
        client = self.request.client
        told = self.request.tidings
        accepted = client.send(h11.Response(status_code=200, reason=b"Connection established", headers=told))
        # A client that did not wait for the answer has begun to speak to the target.
        early, _ = client.trailing_data
        self.request.answered = True
        yield WriteClient(accepted, self.limits.idle)
        if early:
            self.sent = True
            self.bytes_up = len(early)
            yield WriteUpstream(early)
