"""How files and databases change without loss, and the small records beside the cache.

- `files`: private directories, files that are replaced whole, what to do about an error of the file system.
- `database`: the one way in which an SQLite file is opened; `salvage` reads what can be read of a damaged one.
- `forking`: no database is open at the moment of a fork.
- `contention`: tries and pauses for a lock that another process holds.
- `store`: values by kind and key, shared by processes or in memory.
"""
