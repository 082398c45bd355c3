"""The command line: parse input, call the library, print output.

`main.COMMANDS` says which module has which command. Where their names differ:

- `transfer`: `import` and `export`. `entries`: `add`, `remove` and `clear`. `listing`: `list`. `fetching`: `fetch`.
- `checking`: `check`. `serving`: `serve`, `monitor` and `judge`. `bans_and_sessions`: `bans` and `sessions`.

What commands share of their input is in `options`, and how they print in `output`.
"""
