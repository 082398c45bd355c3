"""Which proxy a session has, and what processes agree on.

- `sessions`: how long a session lasts, its proxy as this process knows it, and the proxy that a new one falls to.
- `ledger`: what is agreed on with others: the proxy of a session, and who holds a proxy exclusively. In memory, or
  through what is written down in a home (`knowledge`).
"""
