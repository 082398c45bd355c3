"""What is known of the sites that requests go to. Pure; called under the pool's lock.

- `site`: one site. Who is barred from it, the run of failures alike that shows it to be at fault, its rest, and what
  each proxy achieved there.
- `bans`: for how long one proxy is barred from one site, and which bans have changed and are to be written down.
- `groups`: which proxies fail together, as those of a network or of a gateway do, and are barred together.
- `networks`: whether a site counts the uses of a network together.
- `group_learning`: what an outcome changes in these two.
- `rate_limit`: how often one proxy may come, learnt from the moments at which the site refused it.
- `learning`: what an outcome changes in all of these.

Whose failure is it? One proxy that is refused is banned there. Several in a row that are refused alike show that the
site is at fault: their bans are taken back. A site that is out of order is left alone for a while, for all.
"""
