"""The plot of cost against size, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.cache.peers import library

__all__ = ["write_plot"]

LINES = (("put", "#b5482a", "s"), ("get", "#2a6fb5", "o"), ("bare read", "#777777", "^"))


def write_plot(curve: Sequence[dict[str, float]], path: Path) -> None:
    """Draw microseconds per operation over the number of entries, both logarithmic.

    Raises:
        MissingPeerError: matplotlib is not installed.
    """
    matplotlib = library("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "cost-against-size", "svg.fonttype": "none", "font.family": "sans-serif"}
    )
    pyplot = library("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(7, 4))
    sizes = [point["entries"] for point in curve]
    for name, colour, marker in LINES:
        axes.plot(sizes, [point[name] for point in curve], color=colour, marker=marker, label=name)
    axes.set(xscale="log", yscale="log", xlabel="entries in the store", ylabel="microseconds per operation")
    axes.set_xticks(sizes, [f"{int(size):,}" for size in sizes])
    axes.grid(visible=True, which="both", color="#e4e4e4", linewidth=0.6)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
