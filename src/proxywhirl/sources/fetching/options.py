"""How sources are asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """What bounds the fetching of sources: times in seconds, sizes in bytes of unpacked content.

    Attributes:
        concurrency: Sources that are asked at once.
        connect_timeout: For a connection, TLS included.
        read_timeout: Without a byte.
        total_timeout: For one source, with its redirects, attempts and the waits between them.
        max_bytes: Of one list.
        attempts: On failures that may pass.
        max_redirects: Of one attempt.
        wait: Before the second attempt; each later wait is twice as long, and up to as much again by chance.
    """

    concurrency: int = 16
    connect_timeout: float = 10.0
    read_timeout: float = 15.0
    total_timeout: float = 60.0
    max_bytes: int = 16_000_000
    attempts: int = 3
    max_redirects: int = 5
    wait: float = 0.5
