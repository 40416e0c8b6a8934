"""The map: the projection of airports onto us-outline.svg, and the marks on it.

Pixels are those of the outline, 975 wide and 610 high. `us-outline.svg` names its source.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from utils.analysis.airports import places

WIDTH, SHAPE = 975.0, 0.61  # pixels; height of a map by width
EARTH_KM_PER_PIXEL = 6371 / 1300  # on the contiguous states, by the scale of the projection
MIN_BOX_WIDTH, BOX_MARGIN = WIDTH / 3, 1.3
NAME_WIDTH, NAME_HEIGHT = 18.0, 8.0  # half the size of an airport code, pixels


class Projection(NamedTuple):
    """An Albers equal-area conic projection: scale, position of the centre in pixels, angles in degrees."""

    scale: float
    x: float
    y: float
    rotation: float
    centre: tuple[float, float]
    parallels: tuple[float, float]


# d3.geoAlbersUsa().scale(1300).translate([487.5, 305]), in which the outline is drawn
STATES = Projection(1300, 487.5, 305, 96, (-0.6, 38.7), (29.5, 45.5))
ALASKA = Projection(455, 487.5 - 0.307 * 1300, 305 + 0.201 * 1300, 154, (-2, 58.5), (55, 65))
HAWAII = Projection(1300, 487.5 - 0.205 * 1300, 305 + 0.212 * 1300, 157, (-3, 19.9), (8, 18))


class Box(NamedTuple):
    """What a map shows: left, top and width in pixels."""

    left: float = 0.0
    top: float = 10.0
    width: float = WIDTH

    @property
    def view(self) -> str:
        """The viewBox."""
        return f"{self.left:.0f} {self.top:.0f} {self.width:.0f} {self.width * SHAPE:.0f}"

    def has(self, x: float, y: float) -> bool:
        """Return True if a pixel is inside."""
        return 0 <= x - self.left <= self.width and 0 <= y - self.top <= self.width * SHAPE

    @property
    def scale(self) -> float:
        """Size of text and dots, so that they look the same on every map."""
        return self.width / WIDTH


class Dot(NamedTuple):
    """An airport to mark. size: radius in pixels on the whole map."""

    origin: str
    size: float
    severity: int
    is_closed: bool
    title: str
    is_named: bool


class Disc(NamedTuple):
    """An event to mark with a number, at an airport."""

    rank: int
    origin: str
    airports: int
    severity: int
    title: str
    href: str


@functools.cache
def position(origin: str) -> tuple[float, float] | None:
    """Return the pixel of an airport, None if its place is unknown. Islands far away are in insets."""
    place = places().get(origin)
    if place is None:
        return None
    if place.longitude > 0:  # Guam and its neighbours
        return 60.0, 560.0
    if place.latitude < 18.9 and place.longitude > -70:  # Puerto Rico and the Virgin Islands
        return 800 + (place.longitude + 67.2) * 18, 585 - (place.latitude - 18.2) * 18
    if place.latitude > 50:
        return _albers(ALASKA, place.latitude, place.longitude)
    return _albers(HAWAII if place.longitude < -150 else STATES, place.latitude, place.longitude)


def _albers(projection: Projection, latitude: float, longitude: float) -> tuple[float, float]:
    south, north = (math.sin(math.radians(parallel)) for parallel in projection.parallels)
    n = (south + north) / 2
    c = 1 + south * (2 * n - south)

    def cone(east: float, north: float) -> tuple[float, float]:
        radius = math.sqrt(c - 2 * n * math.sin(math.radians(north))) / n
        angle = math.radians((east + 540) % 360 - 180) * n
        return radius * math.sin(angle), math.sqrt(c) / n - radius * math.cos(angle)

    (x, y), (x0, y0) = cone(longitude + projection.rotation, latitude), cone(*projection.centre)
    return projection.x + projection.scale * (x - x0), projection.y - projection.scale * (y - y0)


def box_around(origins: Iterable[str]) -> Box:
    """Return the box around airports with a margin, at least a third of the country; the country if none is known."""
    points = [point for origin in origins if (point := position(origin))]
    if not points:
        return Box()
    (x0, x1), (y0, y1) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    width = min(WIDTH, max(MIN_BOX_WIDTH, (x1 - x0) * BOX_MARGIN, (y1 - y0) * BOX_MARGIN / SHAPE))
    left = max(-10.0, min((x0 + x1 - width) / 2, WIDTH + 10 - width))
    return Box(left, (y0 + y1) / 2 - width * SHAPE / 2, width)


def calm_path(origins: Iterable[str], box: Box) -> str:
    """Return the path of airports in the box that are only points."""
    points = (position(origin) for origin in sorted(origins))
    return "".join(f"M{point[0]:.0f} {point[1]:.0f}h0" for point in points if point and box.has(*point))


def place_dots(dots: Iterable[Dot], box: Box) -> list[dict[str, Any]]:
    """Return pixel, radius and label of each dot with a known place, large ones first, so that small ones lie on top.

    A label is right, left, above or below its dot; it is None if it would cover another one.
    """
    ordered = sorted(dots, key=lambda dot: (-dot.size, dot.origin))
    known = [(dot, point) for dot in ordered if (point := position(dot.origin))]
    scale = box.scale
    taken = [(*point, dot.size * scale, dot.size * scale) for dot, point in known]
    placed: list[dict[str, Any]] = []
    for dot, (x, y) in known:
        label = _free_spot(x, y, dot.size * scale, scale, taken) if dot.is_named else None
        if label:
            taken.append((*label, NAME_WIDTH * scale, NAME_HEIGHT * scale))
        placed.append({"dot": dot, "x": x, "y": y, "radius": dot.size * scale, "label": label, "drop": 6 * scale})
    return placed


def _free_spot(
    x: float, y: float, radius: float, scale: float, taken: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float] | None:
    """Return the centre of a label beside a dot that covers nothing in `taken`: centre and half the size of each."""
    width, height = NAME_WIDTH * scale, NAME_HEIGHT * scale
    spots = (
        (x + radius + width + 2 * scale, y),
        (x - radius - width - scale, y),
        (x, y - radius - height),
        (x, y + radius + height),
    )
    for spot in spots:
        is_free = all(
            abs(spot[0] - left) > width + half_width or abs(spot[1] - top) > height + half_height
            for left, top, half_width, half_height in taken
        )
        if is_free:
            return spot
    return None


def place_discs(discs: Iterable[Disc]) -> list[dict[str, Any]]:
    """Return pixel and radius of each event with a known place, large ones first; the area grows with the airports."""
    ordered = sorted(discs, key=lambda disc: (-disc.airports, disc.rank))
    return [
        {"disc": disc, "x": point[0], "y": point[1], "radius": 8 + 4.5 * disc.airports**0.5}
        for disc in ordered
        if (point := position(disc.origin))
    ]
