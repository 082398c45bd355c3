"""How well each proxy works, judged from what became of its uses."""
