"""Which proxy a session has, and what processes agree on.

- `sessions`: how long a session lasts, its proxy as this process knows it, and the proxy that a new one gets.
- `ledger`: the agreements with other processes: the proxy of a session, and who holds a proxy exclusively. In memory,
  or in the file of a home (`knowledge`).
"""
