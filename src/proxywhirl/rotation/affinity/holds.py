"""Who is held exclusively, until when, and by which lease of this process. Pure."""

from __future__ import annotations

from weakref import ref

from proxywhirl.rotation.lease import Lease
from proxywhirl.timetable import Timetable


class Holds(Timetable[str]):
    """Keys with the moment, on the pool's monotonic clock, at which they are free again.

    A lease of this process is known by a weak reference, so that one that is dropped can be taken back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, ref[Lease]] = {}

    def hold(self, lease: Lease, until: float) -> None:
        """Keep others off a lease's proxy."""
        key = lease.state.key
        self.put(key, until)
        self._leases[key] = ref(lease)

    def unhold(self, lease: Lease) -> None:
        """Let others have a lease's proxy, unless another one holds it by now."""
        key = lease.state.key
        known = self._leases.get(key)
        if known is not None and known() is lease:
            del self._leases[key]
            self.discard(key)

    def elsewhere(self, key: str, until: float | None) -> None:
        """Take note that another process holds a proxy until a moment, or does no more."""
        if until is not None:
            self._leases.pop(key, None)
            self.put(key, until)
        elif key not in self._leases:
            self.discard(key)

    def end(self, key: str) -> Lease | None:
        """Return the lease that held a key whose time is over; None where it is another process's, or was dropped."""
        known = self._leases.pop(key, None)
        return None if known is None else known()
