"""What choosing has learnt, and what processes agree on: kept in state, shared by all processes of a home."""

from proxywhirl.knowledge.knowledge import Knowledge

__all__ = ["Knowledge"]
