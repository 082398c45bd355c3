"""Which entries a scan gives. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from proxywhirl.cache.policy import Found, state_of
from proxywhirl.cache.record import Record, decode_attributes
from proxywhirl.models import HealthStatus

__all__ = ["Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """All that is asked for must fit; None asks for nothing. `retired` asks for those out of service instead."""

    status: HealthStatus | None = None
    source: str | None = None
    scheme: str | None = None
    country: str | None = None
    tag: str | None = None
    retired: bool | None = False

    def takes(self, record: Record, now: float) -> bool:
        """Whether a record is among those asked for."""
        if state_of(record, now) is Found.EXPIRED or self.retired not in (None, record.retired):
            return False
        return self._fits_fields(record) and self._fits_attributes(record)

    def _fits_fields(self, record: Record) -> bool:
        return (
            (self.status is None or record.status == self.status.value)
            and (self.source is None or record.source == self.source)
            and (self.scheme is None or record.url.startswith(f"{self.scheme}://"))
        )

    def _fits_attributes(self, record: Record) -> bool:
        if self.country is None and self.tag is None:
            return True
        known = decode_attributes(record.attributes)
        return (self.country is None or known.country == self.country.upper()) and (
            self.tag is None or self.tag in known.tags
        )
