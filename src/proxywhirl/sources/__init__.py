"""Lists of proxies: what a source is, how it is fetched, how its list is read.

- `spec`: a source as a frozen value, `SourceSpec`. `definitions`: how the user writes one, and which ones are known.
- `fetching/` is the edge: it opens files and connections. `fetching.bounds` says how far a fetch may go.
- `parsing/` is pure: bytes in, proxies out. It reads what `proxywhirl import` gets too.
- `harvest` takes the proxies out of a source's list, and says why there are none.
- `fetch_history` decides when a source is asked again, and for what. `proxywhirl.supply` does it.

Who may name what:

| provenance | where it may lead | what its list may hold |
|---|---|---|
| catalogue, plug-in | public addresses alone, at each redirect | public addresses alone |
| user | files and any address; from a public one never to a private one | any address |

A list counts whole or not at all: the last line of one that was cut may look like another proxy.
"""

from __future__ import annotations

from proxywhirl.sources.parsing.parse import parse_list
from proxywhirl.sources.parsing.records import Candidate, Ignored, Item, Rejected

__all__ = ["Candidate", "Ignored", "Item", "Rejected", "parse_list"]
