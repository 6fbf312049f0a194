"""Which views are wanted: of all photos the same, or as a file of poses says."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from zero123.geometry import Orbit
from zero123.pipeline.asked import read_poses

NOMINAL_RADIUS = 1.85
"""Middle of the distances that the models were trained at; a photo does not tell its own."""
_NUMBERS = ("azimuth", "elevation", "distance")
_VIEWS_AT_ONCE = 256
"""Photos share a call of the model until it makes more than these."""


@dataclass(frozen=True)
class Moves:
    """Wanted camera moves away from where a photo was taken, as many of each number."""

    azimuth: tuple[float, ...]
    """Turns, degrees, counter-clockwise seen from above."""
    elevation: tuple[float, ...]
    """Climbs, degrees, up positive."""
    distance: tuple[float, ...]
    """Changes of distance, units of the object's longest side."""
    image_elevation: float
    """Where the photo was taken from, degrees above eye level."""

    @classmethod
    def spread(
        cls,
        azimuth: Sequence[float],
        elevation: Sequence[float],
        distance: Sequence[float],
        image_elevation: float,
    ) -> "Moves":
        """Lay out the moves; a number alone stands for all.

        Raises:
            ValueError: if counts differ, a number is not finite, out of range or radians by
                mistake, or a camera would pass through the object's middle.
        """
        # the zeros have the count alone looked at: far distances are the pipeline's to speak of
        read_poses(azimuth, elevation, [0.0] * len(distance), image_elevation, "zero123")
        for change in distance:
            if not math.isfinite(change):
                raise ValueError(f"distance must be finite, got {change}")
            if change <= -NOMINAL_RADIUS:
                raise ValueError(f"distance must be above {-NOMINAL_RADIUS:g}, got {change:g}")
        count = max(map(len, (azimuth, elevation, distance)))

        def wide(values: Sequence[float]) -> tuple[float, ...]:
            return tuple(values) * (count if len(values) == 1 else 1)

        return cls(wide(azimuth), wide(elevation), wide(distance), image_elevation)

    def __len__(self) -> int:
        return len(self.azimuth)

    @property
    def photo_seat(self) -> Orbit:
        """Where the photo was taken from."""
        return Orbit(math.radians(90 - self.image_elevation), 0.0, NOMINAL_RADIUS)

    @property
    def seats(self) -> list[Orbit]:
        """Where the moves lead."""
        return [
            self.photo_seat.moved(math.radians(elevation), math.radians(azimuth), distance)
            for azimuth, elevation, distance in self._rows
        ]

    @property
    def captions(self) -> list[str]:
        """Say each move in words."""
        return [
            f"azimuth {azimuth:+g}°, elevation {elevation:+g}°"
            + (f", distance {distance:+g}" if distance else "")
            for azimuth, elevation, distance in self._rows
        ]

    @property
    def _rows(self) -> Iterator[tuple[float, float, float]]:
        return zip(self.azimuth, self.elevation, self.distance, strict=True)


def calls(wanted: Sequence[Moves], samples: int) -> Iterator[tuple[Moves, int]]:
    """Cut photos into calls of the model: their moves, and how many of the next photos they are of.

    Args:
        wanted: moves of each photo.
        samples: pictures of each view.
    """
    for moves, alike in groupby(wanted):
        left, most = len(list(alike)), max(1, _VIEWS_AT_ONCE // (len(moves) * samples))
        while left > 0:
            yield moves, min(left, most)
            left -= most


@dataclass(frozen=True)
class _Row:
    """A row of a file of poses."""

    azimuth: float = 0.0
    elevation: float = 0.0
    distance: float = 0.0
    image: str | None = None
    """The photo that it is for, by the end of its path; None: all photos."""

    @classmethod
    def read(cls, told: Mapping[str, object]) -> "_Row":
        _check_columns(list(told))
        if not set(told) & set(_NUMBERS):
            raise ValueError(f"none of {', '.join(_NUMBERS)} is given")
        numbers = {name: _number(name, told[name]) for name in _NUMBERS if name in told}
        image = told.get("image") or None
        if not isinstance(image, str | None):
            raise ValueError(f"image must be the name of a photo, got {image!r}")
        return cls(**numbers, image=image)

    def photos(self, paths: Sequence[Path]) -> set[int]:
        """Which of the photos it is for, by their indices."""
        if self.image is None:
            return set(range(len(paths)))
        parts = Path(self.image).parts
        found = {index for index, path in enumerate(paths) if path.parts[-len(parts) :] == parts}
        if len(found) != 1:
            how_many = "several of the photos are" if found else "none of the photos is"
            raise ValueError(f"{how_many} {self.image}")
        return found


def moves_of_file(
    file: Path, photos: Sequence[Path], image_elevation: float
) -> list[tuple[Path, Moves]]:
    """Read which views a file of poses wants, photo by photo.

    Args:
        file: ``.csv`` with a head, or ``.json``, a list of objects. Columns are azimuth and
            elevation in degrees and distance, each 0 where it is left out, and image, the photo
            that a row is for; without it a row is for all.
        photos: what rows may be for.
        image_elevation: of the photos, degrees.

    Returns:
        The photos that rows are for.

    Raises:
        ValueError: if it is no such file; or, with the number of the row, if one is not finite,
            out of range, in radians or for no photo.
        OSError: if it cannot be read.
    """
    Moves.spread([0.0], [0.0], [0.0], image_elevation)  # it is no row's fault
    wanted: list[list[_Row]] = [[] for _ in photos]
    for number, told in enumerate(_read(file), 1):
        try:
            row = _Row.read(told)
            _moves([row], image_elevation)
            for index in row.photos(photos):
                wanted[index].append(row)
        except ValueError as error:
            raise ValueError(f"{file}, row {number}: {error}") from error
    return [
        (photo, _moves(rows, image_elevation))
        for photo, rows in zip(photos, wanted, strict=True)
        if rows
    ]


def _moves(rows: Sequence[_Row], image_elevation: float) -> Moves:
    return Moves.spread(
        [row.azimuth for row in rows],
        [row.elevation for row in rows],
        [row.distance for row in rows],
        image_elevation,
    )


def _read(file: Path) -> list[dict[str, object]]:
    """The rows by their columns, as they are told."""
    readers = {".csv": _read_csv, ".json": _read_json}
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file}: poses are read from {' or '.join(readers)}")
    try:
        rows = readers[file.suffix.lower()](file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: save it as such") from error
    except (ValueError, csv.Error, RecursionError) as error:
        raise ValueError(f"{file}: {error}") from error
    if not rows:
        raise ValueError(f"{file} holds no poses")
    return rows


def _read_csv(text: str) -> list[dict[str, object]]:
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    head, *rows = [[cell.strip() for cell in line] for line in lines if any(line)] or [[]]
    _check_columns(head)
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise ValueError(f"row {number} has {len(row)} cells where the head has {len(head)}")
    return [dict(zip(head, row, strict=True)) for row in rows]


def _read_json(text: str) -> list[dict[str, object]]:
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError('poses are a list of objects such as {"azimuth": 60, "elevation": 20}')
    return rows


def _check_columns(names: Sequence[str]) -> None:
    columns = (*_NUMBERS, "image")
    for name in names:
        if name not in columns:
            raise ValueError(f"unknown column {name!r}: the columns are {', '.join(columns)}")
        if names.count(name) > 1:
            raise ValueError(f"column {name} is there twice")


def _number(name: str, told: object) -> float:
    if not isinstance(told, str | int | float) or isinstance(told, bool):
        raise ValueError(f"{name} must be a number, got {told!r}")
    try:
        return float(told)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be a number, got {told!r}") from error
