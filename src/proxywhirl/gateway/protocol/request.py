"""A client's request: its head, and its body as it comes, held as long as it can be sent again."""

from __future__ import annotations

from dataclasses import dataclass

import h11

from proxywhirl.gateway.protocol.client_fields import Asked
from proxywhirl.gateway.protocol.limits import REPLAYED_BODY
from proxywhirl.gateway.protocol.messages import MOVED_FIELD, Destination, Fields, trailers_onward


class ClientBroke(Exception):
    """The client's body is not what its head declared, or stopped coming: no proxy's fault."""

    def __init__(self, status: int, explanation: str) -> None:
        super().__init__(explanation)
        self.status = status
        self.explanation = explanation


class Body:
    """What has come of a request's body.

    `complete`: the end has come. `replayable`: all that was sent of it is still held.
    """

    def __init__(self, client: h11.Connection) -> None:
        self.complete = False
        self.replayable = True
        self._client = client
        self._held = bytearray()
        self._trailers: Fields = []

    def feed(self, data: bytes) -> list[h11.Data | h11.EndOfMessage]:
        """Parse bytes of the client (`b""` at the end of its stream) and return what is new of the body."""
        self._client.receive_data(data)
        return self.take()

    def take(self) -> list[h11.Data | h11.EndOfMessage]:
        """Return what is new of the body in the bytes that the parser already has.

        Raises:
            ClientBroke: The body breaks its framing, or the stream ended before it.
        """
        events: list[h11.Data | h11.EndOfMessage] = []
        while not self.complete:
            try:
                event = self._client.next_event()
            except h11.RemoteProtocolError as exc:
                raise ClientBroke(400, "The request's body is incomplete or malformed.") from exc
            if isinstance(event, h11.Data):
                if self.replayable:
                    self._held += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
                self._trailers = trailers_onward(event.headers)
                event = h11.EndOfMessage(headers=self._trailers)
            else:
                break
            events.append(event)
        return events

    def replay(self) -> list[h11.Data | h11.EndOfMessage]:
        """Return all that has come so far, to be sent from the start; only while `replayable`."""
        events: list[h11.Data | h11.EndOfMessage] = []
        if self._held:
            events.append(h11.Data(data=bytes(self._held)))
        if self.complete:
            events.append(h11.EndOfMessage(headers=self._trailers))
        return events

    def trim(self) -> None:
        """Note that what has come was sent: past `REPLAYED_BODY` bytes it is held no longer."""
        if len(self._held) > REPLAYED_BODY:
            self.replayable = False
            self._held.clear()


@dataclass(slots=True, eq=False)
class Request:
    """One request of a client, across all its attempts.

    `began` and `deadline` are on the monotonic clock; `asked` is what the client wants beside what its head says;
    `answered` once the client may have seen a byte of a final response, after which nothing can be tried again;
    `moved_from` is the proxy (its key) that the client's session had before this request, where it has another one now.
    """

    client: h11.Connection
    head: h11.Request
    destination: Destination
    body: Body
    began: float
    deadline: float
    asked: Asked
    answered: bool = False
    moved_from: str | None = None

    @property
    def method(self) -> str:
        """The method, as sent: methods are case-sensitive."""
        return self.head.method.decode("ascii")

    @property
    def tidings(self) -> Fields:
        """The fields in which the gateway itself tells the client something of how it was served."""
        return [] if self.moved_from is None else [(MOVED_FIELD, self.moved_from.encode())]
