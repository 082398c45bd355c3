"""Which of the ready proxies serves: one file for each idea, `base` with their protocol, `registry` with their names.

=============  ======================================================  =====================
round_robin    each once in every turn, and nobody starves             O(1)
random         all alike                                               O(1)
weighted       by `Attributes.weight`                                  O(number of powers of two)
least_used     the fewest requests under way                           O(1)
fastest        the sooner of two, failures included                    O(1)
cheapest       the lowest price that works                             O(number of prices)
bandit         the best chance on the site, with some exploration      O(1)
=============  ======================================================  =====================

`random` and `weighted` are in `chance`, each other one in a file of its name. `sampling` is what several draw from.
`composite`, `geo` and `sticky` are no strategies but ways to use one: `selection.pool_options`.

The costs are those of a request that most proxies may serve. If few are admitted a strategy draws more often, and
finally looks at all. Every random decision is drawn from the pool's `rng`, in an order that depends on the calls
alone: the same seed makes the same choices.
"""
