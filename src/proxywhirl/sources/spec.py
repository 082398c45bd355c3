"""What a source of proxies is, as a frozen value."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_REFRESH = 3600  # seconds
DEFAULT_TTL = 21_600  # seconds: a list that cannot be had for some hours keeps its proxies

_SECRET = re.compile(r"(?=[^/]*[0-9])[A-Za-z0-9_~=-]{20,}")  # a path's segment that may be a key to it


class Provenance(StrEnum):
    """Who named a source: only the user's own may be files or have addresses that are not public."""

    CATALOGUE = "catalogue"
    PLUGIN = "plug-in"
    USER = "user"


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A list of proxies: where it is and how to read it.

    Attributes:
        name: What the user calls it by, and what its proxies have as their source.
        location: An http or https URL, or the absolute path of a file. It may hold a credential: show `shown`.
        format: One of `parser_names()`; None to recognise it by the content.
        path: Where in a JSON document the proxies stand.
        scheme: Of the entries that name none.
        refresh: Seconds after which it is worth asking again.
        ttl: Seconds that its proxies live; infinity for ever.
        enabled: Whether it is asked when no source is named.
        provenance: Who named it.
        home_page: The page of the list's maintainers, where it is known.
        licence: Of the list, where it is known.
    """

    name: str
    location: str = field(repr=False)
    format: str | None = None
    path: str | None = None
    scheme: str = "http"
    refresh: float = DEFAULT_REFRESH
    ttl: float = DEFAULT_TTL
    enabled: bool = True
    provenance: Provenance = Provenance.PLUGIN
    home_page: str | None = None
    licence: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a file of this machine."""
        return "://" not in self.location

    @property
    def shown(self) -> str:
        """The location without what may be a credential: userinfo, and of the user's own a query and long keys too."""
        if self.is_file:
            return self.location
        parts = urlsplit(self.location)
        host = parts.netloc.rpartition("@")[2]
        if self.provenance is not Provenance.USER:
            return parts._replace(netloc=host).geturl()
        path = "/".join(_SECRET.sub("***", segment) for segment in parts.path.split("/"))
        return f"{parts.scheme}://{host}{path}{'?***' if parts.query else ''}"

    @property
    def fingerprint(self) -> str:
        """A text that changes with the definition: what was learned before a change no longer holds."""
        told = (self.location, self.format, self.path, self.scheme, self.ttl)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    @property
    def suggested_name(self) -> str:
        """A name for a source that was given none: the file's, or the host and the last part of the path."""
        if self.is_file:
            return Path(self.location).name
        parts = urlsplit(self.location)
        last = next((part for part in reversed(parts.path.split("/")) if part), "")
        return f"{parts.hostname}-{last}" if last and not _SECRET.fullmatch(last) else str(parts.hostname)
