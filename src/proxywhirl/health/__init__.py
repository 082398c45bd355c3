"""How well proxies work: probes, the verdict by the table of `policy`, and the record for all other rooms.

The steps of one check, for `monitor` (what is due) and `batch` (a list) alike:

1. `checks` claims the proxy, so that no other process of the home checks it, reads its endpoint, and asks `budget`.
2. `probe` makes up to three attempts; one that this machine spoiled says nothing of the proxy.
3. `recorder` sifts the results. While the `judges` cannot be relied on, a failure counts against no proxy.
4. `policy` says the next status and when the proxy is checked next. The recorder hands both to the store of entries,
   and the outcome to `outcome_history`.

The outcome of a request enters at 3, as a `Report`: real traffic counts as a check, so that a busy proxy is hardly
probed. While a monitor runs it takes the reports, since it knows the judges; else they count as they are.

Rules:

- `judge_server` is what `proxywhirl judge` serves, `geo` tells where an exit is.
- `levels` and `policy` are pure. `judges` and `probe` belong to one event loop and touch the network.
- What may wait for a disk runs in a thread: `checks`, `recorder` and `budget` see to that.
- This room knows no cache. `checks.Checkable` and `recorder.CheckStore` are what it needs of one; `checkups` gives it.
- Nobody is asked but the proxies, and through them the judges and the target that the user named. `judges` says which
  two questions are asked without a proxy.
"""
