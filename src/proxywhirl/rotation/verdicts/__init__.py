"""From a response to the party to blame: nobody, the proxy, the account, the target, or the target through this proxy.

- `response`: the evidence, what rules look at (the unpacked text, the title), and the verdict of a sender without
  rules.
- `rules`: what a rule is, and the first one that holds.
- `rule_file`: rules as users write them, in TOML, and what is wrong with them. The built-in ones are in
  `ban_rules.toml`, in the same grammar.

A verdict depends on the response and the rules alone. Bounded are the bytes that are looked at, the memory of
unpacking, and the time of a search.
"""
