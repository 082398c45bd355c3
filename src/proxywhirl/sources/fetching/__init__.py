"""How a source is fetched: within bounds, from where it may be, and whole or not at all.

- `fetch`: the attempts, redirects and statuses, `Retry-After` among them.
- `bounds`: times and sizes, and which addresses are public. `body`: what came, unpacked, up to its bound.
"""
