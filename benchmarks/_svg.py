"""Curves as a small SVG file without scripts or fonts of its own, for docs/images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 440, 62, 190, 40, 56
_INK, _MUTED, _GRID = "#1c2733", "#64748b", "#e8ecf1"
_Y_TICKS = 6  # about so many


@dataclass(frozen=True)
class Labels:
    """What the axes stand for.

    Attributes:
        x, y: in words; what is drawn upwards is a share, shown in percent.
        counted: what ``x`` counts or is a share of, for the text that a marker shows.
        ticks: numbers on the horizontal axis, which is logarithmic.
        percent: whether ``x`` is a share too.
    """

    x: str
    y: str
    counted: str
    ticks: tuple[float, ...]
    percent: bool = False

    def number(self, x: float) -> str:
        """Return a horizontal value as it is shown."""
        return f"{round(100 * x, 1):g} %" if self.percent else f"{x:g}"


FRONTIER = Labels(
    x="measured latency, % of the original network",
    y="test accuracy (%)",
    counted="of the latency",
    ticks=(1.0, 0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01),
    percent=True,
)


@dataclass(frozen=True)
class Point:
    """A place in the plot.

    Attributes:
        x: positive.
        y: 0..1.
        low, high: ends of the interval of ``y``.
    """

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        name: for the legend.
        points: at least one.
        colour: of all of it.
        joined: whether a line joins them.
    """

    name: str
    points: tuple[Point, ...]
    colour: str
    joined: bool


class _Axes:
    """From values to pixels: a logarithmic axis across, a linear one upwards."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.left = min(p.x for p in points) * 0.9
        self.right = max(p.x for p in points) * 1.08
        low, high = min(p.low for p in points), max(p.high for p in points)
        self.step = _round_step((high - low) / _Y_TICKS)
        self.low = math.floor(low / self.step) * self.step
        self.high = math.ceil(high / self.step) * self.step

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        share = math.log(value / self.left) / math.log(self.right / self.left)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the vertical place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _round_step(step: float) -> float:
    """Return the round number next above ``step``, at least a tenth of a point."""
    power = 10.0 ** math.floor(math.log10(max(step, 1e-3)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= max(step, 1e-3))


def plot(title: str, series: Sequence[Series], labels: Labels = FRONTIER) -> str:
    """Return the SVG text of a plot.

    Args:
        title: above it.
        series: at least one.
        labels: of the axes.
    """
    axes = _Axes([point for one in series for point in one.points])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{_INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, weight="600"),
        *_grid(axes, labels),
    ]
    for number, one in enumerate(series):
        parts += [*_drawn(axes, one, labels), *_legend(number, one)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(axes: _Axes, labels: Labels) -> list[str]:
    """Return the lines and numbers of both axes."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for tick in (tick for tick in labels.ticks if axes.left <= tick <= axes.right):
        x = axes.x(tick)
        parts += [_line(x, _TOP, x, bottom, _GRID), _text(x, bottom + 18, labels.number(tick), anchor="middle")]
    for count in range(round((axes.high - axes.low) / axes.step) + 1):
        value = axes.low + count * axes.step
        y = axes.y(value)
        parts += [_line(_LEFT, y, right, y, _GRID), _text(_LEFT - 8, y + 4, f"{100 * value:.4g}", anchor="end")]
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 12, labels.x, anchor="middle"))
    turned = f'transform="rotate(-90 16 {(_TOP + bottom) / 2})"'
    parts.append(_text(16, (_TOP + bottom) / 2, labels.y, anchor="middle", more=turned))
    return parts


def _drawn(axes: _Axes, series: Series, labels: Labels) -> list[str]:
    """Return line, error bars and markers of a series."""
    points, colour = sorted(series.points, key=lambda point: point.x), series.colour
    parts = []
    if series.joined:
        places = " ".join(f"{axes.x(p.x)},{axes.y(p.y)}" for p in points)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for point in points:
        x, y = axes.x(point.x), axes.y(point.y)
        told = f"{series.name}: {labels.number(point.x)} {labels.counted}, {100 * point.y:.1f} %"
        parts.append(_line(x, axes.y(point.low), x, axes.y(point.high), colour))
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"><title>{escape(told)}</title></circle>')
    return parts


def _legend(number: int, series: Series) -> list[str]:
    x, y = _WIDTH - _RIGHT + 18, _TOP + 12 + 22 * number
    return [f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{series.colour}"/>', _text(x + 12, y, series.name)]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400", more: str = "") -> str:
    colour = _INK if weight == "600" else _MUTED
    place = f'x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"'
    return f"<text {place} {more}>{escape(text)}</text>".replace(" >", ">")
