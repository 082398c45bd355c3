"""The plot of yield over time, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.yields.contestants import BLIND, ORACLE
from benchmarks.yields.peers import CRAWLEE, SCRAPY

__all__ = ["SMOOTHED", "moving", "write_plot"]

SMOOTHED = 5
"""Over how many points of a curve the shown mean goes."""

COLOURS = {
    ORACLE: "#999999",
    "bandit": "#b5482a",
    "fastest": "#2a6fb5",
    "round_robin": "#3a8f4d",
    SCRAPY: "#8a56ac",
    CRAWLEE: "#c79a1b",
    BLIND: "#444444",
}
"""Who is drawn: all of them would be a tangle."""


def moving(curve: Sequence[float], width: int = SMOOTHED) -> list[float]:
    """Return the mean of each point and of those before it, so many in all.

    >>> moving([1.0, 0.0, 1.0], width=2)
    [1.0, 0.5, 0.5]
    """
    windows = (curve[max(0, end - width) : end] for end in range(1, len(curve) + 1))
    return [sum(window) / len(window) for window in windows]


def write_plot(curves: Mapping[str, Sequence[float]], duration: float, path: Path) -> None:
    """Draw the moving share of first attempts that succeed over the seconds of a run."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "yield", "svg.fonttype": "none", "font.family": "sans-serif"})
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, colour in COLOURS.items():
        if curve := curves.get(name):
            seconds = [duration * (place + 1) / len(curve) for place in range(len(curve))]
            axes.plot(seconds, [100 * share for share in moving(curve)], color=colour, label=name, linewidth=1.4)
    axes.set(xlabel="seconds", ylabel="first attempts that succeed (%)", ylim=(0, 100))
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.6)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
