"""The gateway: one local HTTP proxy whose every request leaves through a proxy of the pool.

`server` accepts clients while there is room for them and gives each a `driver`. The driver carries out, with real
connections, what `protocol` decides: that is pure, and has its own plan. `options` says where a gateway listens, for
whom and how long it waits; none is open to a network without credentials.

No connection goes to a target directly, and none back to the gateway itself. A client gets an HTTP response or a closed
connection, whatever it sends; a defect of ours ends one connection, not the gateway.
"""

from proxywhirl.gateway.options import GatewayOptions
from proxywhirl.gateway.server import Gateway

__all__ = ["Gateway", "GatewayOptions"]
