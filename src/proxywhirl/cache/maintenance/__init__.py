"""What keeps a store whole. Nothing here is on the way of a read or a write of an entry.

====================  =========================================================  ======================================
module                what it does                                               who calls it
====================  =========================================================  ======================================
`verify`              look through an open store, and mend what can be mended    `CacheManager.verify`, `cache.doctor`
`files`               what is around the tiers: modes of files, room, set aside  `verify`, `cache.doctor`, `cli.doctor`
`migrate`             move the second tier to its other backend                  `proxywhirl migrate`
`transfer`            entries to a file and back                                 `CacheManager`, `cli.transfer`
`statistics_history`  points of the statistics, and what each process published  the engine, `proxywhirl stats`
`periodic`            what is due from time to time: hits, sweeps, history       each call of the cache, and its thread
====================  =========================================================  ======================================

Rules:

- A check changes nothing without `repair`. What it finds is a `Finding`: where, what, and what to do about it.
- Other processes may use the store meanwhile, except for `migrate`, which holds the directory alone.
- Files are known by the names in `cache.manifest`; a file of another name is left alone.
- No finding, log line or export shows a credential, unless an export is asked for it by name.
"""
