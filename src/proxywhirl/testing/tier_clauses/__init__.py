"""The clauses of the tier contract, which `proxywhirl.testing.tiers` joins.

- `base`: tiers to try, records to put into them, a reader that follows the log, and a way to say what is wrong.
- `records`: reading, writing, notes. `changes`: the log, and windows that follow it. `bounds`: the eviction of a full
  tier.
- `model`: long random runs beside a naive model. `durable`: opening again, and sharing among processes.
"""
