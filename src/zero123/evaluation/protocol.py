"""Protocols as frozen data: the same objects, cameras and pictures on every machine."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from zero123.data import Lamp, Lighting, load_mesh, render
from zero123.evaluation.scenes import Scene, SceneError, Trial, digest_of, on_white
from zero123.geometry import Orbit

Seat = tuple[float, float, float]
"""Elevation (degrees, up positive), azimuth (degrees), radius (the object's longest side)."""

_SAME_LEVELS = 0.02
"""Pictures whose mean levels agree to this, of 255, differ by a machine's rounding only."""


@dataclass(frozen=True)
class FrozenObject:
    """One mesh of a protocol, and what its pictures must be."""

    name: str
    file: str
    """Its file in the folder of meshes."""
    sha256: str = ""
    """Of the file."""
    views_sha256: str = ""
    """Of the rendered pictures' bytes, the photo first."""
    levels: tuple[float, ...] = ()
    """Mean level of each picture, 0 to 255: tells another rounding from another picture."""


@dataclass(frozen=True)
class Protocol:
    """Objects, the camera of the photo, cameras of the targets, light, seed and sampler."""

    name: str
    version: int
    about: tuple[str, ...]
    size: int
    """Side of the pictures, pixels."""
    photo: Seat
    targets: tuple[Seat, ...]
    lighting: Lighting
    samples: int
    seed: int
    sampler: Literal["default", "original"]
    objects: tuple[FrozenObject, ...]

    @classmethod
    def named(cls, name: str) -> "Protocol":
        """Open a protocol of this package.

        Raises:
            ValueError: if there is none of that name; it lists those that are.
        """
        if name not in protocol_names():
            raise ValueError(f"no protocol {name!r}: there is {', '.join(protocol_names())}")
        text = _folder().joinpath(f"{name}.json").read_text(encoding="utf-8")
        return cls.from_json(text)

    @classmethod
    def from_json(cls, text: str) -> "Protocol":
        """Read what ``to_json`` wrote."""
        given: dict[str, Any] = json.loads(text)
        light = given["lighting"]
        lamps = [
            Lamp(lamp["polar"], lamp["azimuth"], _triple(lamp["color"])) for lamp in light["lamps"]
        ]
        return cls(
            name=given["name"],
            version=given["version"],
            about=tuple(given["about"]),
            size=given["size"],
            photo=_triple(given["photo"]),
            targets=tuple(_triple(seat) for seat in given["targets"]),
            lighting=Lighting(_triple(light["sky"]), _triple(light["ground"]), tuple(lamps)),
            samples=given["samples"],
            seed=given["seed"],
            sampler=given["sampler"],
            objects=tuple(
                FrozenObject(**{**one, "levels": tuple(one["levels"])}) for one in given["objects"]
            ),
        )

    def to_json(self) -> str:
        """Write all of it, an object a line."""
        given = asdict(self)
        objects = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in given.pop("objects"))
        lines = [
            f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
            for key, value in given.items()
        ]
        return "{\n" + ",\n".join([*lines, f' "objects": [\n  {objects}\n ]']) + "\n}\n"

    @property
    def digest(self) -> str:
        """SHA-256 of all that the protocol says."""
        return digest_of(self.to_json().encode())

    def frozen(self, meshes: Path) -> "Protocol":
        """Note hashes of the meshes as they are, and of their pictures."""

        def noted(one: FrozenObject) -> FrozenObject:
            path = meshes / one.file
            pictures = self._rendered(path)
            return replace(
                one,
                sha256=digest_of(path.read_bytes()),
                views_sha256=digest_of(pictures.tobytes()),
                levels=tuple(_levels(pictures)),
            )

        return replace(self, objects=tuple(noted(one) for one in self.objects))

    def trial(self, meshes: Path, limit: int | None = None) -> Trial:
        """Ask about the protocol's objects, rendered anew from a folder of its meshes.

        Args:
            meshes: holds the files that the protocol names.
            limit: only so many objects, the first; the title says so.

        Raises:
            ValueError: if the folder is none, or holds none of the files.
        """
        if not any((meshes / one.file).is_file() for one in self.objects):
            raise ValueError(
                f"{meshes} holds none of the {len(self.objects)} meshes of {self.name}, such as "
                f"{self.objects[0].file}"
            )
        asked = self.objects[:limit]
        partly = f", only {len(asked)} of {len(self.objects)} objects"
        by_name = {one.name: one for one in asked}
        return Trial(
            title=f"{self.name} v{self.version}" + (partly if asked != self.objects else ""),
            about=(*self.about, f"SHA-256 of the protocol: {self.digest}"),
            names=tuple(by_name),
            open=lambda name: self._scene(by_name[name], meshes),
            samples=self.samples,
            seed=self.seed,
            sampler=self.sampler,
        )

    def _scene(self, one: FrozenObject, meshes: Path) -> Scene:
        path = meshes / one.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SceneError(f"{path} cannot be read: {error.strerror or error}") from error
        if digest_of(data) != one.sha256:
            raise SceneError(
                f"{path} is not the mesh of {self.name}: its SHA-256 begins with "
                f"{digest_of(data)[:12]}, not {one.sha256[:12]}"
            )
        pictures = self._rendered(path)
        notes: tuple[str, ...] = ()
        if digest_of(pictures.tobytes()) != one.views_sha256:
            apart = float(np.abs(np.subtract(_levels(pictures), one.levels)).max())
            if apart > _SAME_LEVELS:
                raise SceneError(
                    f"{one.name} does not look as {self.name} froze it: a mean level is off by "
                    f"{apart:.3g} of 255; another version of the renderer?"
                )
            notes = (
                "its pictures are not the frozen bytes but agree with them in mean level to "
                f"{apart:.2g} of 255: this machine rounds differently, and the last digits of its "
                "figures may too",
            )
        seats = self._seats
        return Scene(one.name, on_white(pictures[0]), seats[0], pictures[1:], seats[1:], notes)

    def _rendered(self, path: Path) -> UInt8[np.ndarray, "views H W 4"]:
        return render(load_mesh(path), self._seats, self.size, self.lighting)

    @property
    def _seats(self) -> tuple[Orbit, ...]:
        return tuple(
            Orbit(math.radians(90 - elevation), math.radians(azimuth), radius)
            for elevation, azimuth, radius in (self.photo, *self.targets)
        )


def protocol_names() -> list[str]:
    """List the protocols of this package."""
    found = (Path(file.name) for file in _folder().iterdir())
    return sorted(path.stem for path in found if path.suffix == ".json")


def even_targets(num_targets: int, photo: Seat) -> tuple[Seat, ...]:
    """Spread target seats: turns evenly, heights and radii as a low-discrepancy sequence.

    Turns go once around from the photo's azimuth; elevations lie in [-20, 60] degrees, radii in
    [1.5, 2.2], where the training views are. Rounded to 0.1 degrees and 0.01.

    Source: the additive recurrence on the plastic number, M. Roberts, 2018.
    """
    plastic = 1.32471795724474602596
    seats = []
    for k in range(num_targets):
        # not 0.5 itself: the first target would be the photo
        height, far = (0.5 + (k + 1) / plastic) % 1, (0.5 + (k + 1) / plastic**2) % 1
        seats.append(
            (
                round(-20 + 80 * height, 1),
                round(photo[1] + 360 * k / num_targets, 1),
                round(1.5 + 0.7 * far, 2),
            )
        )
    return tuple(seats)


def _levels(pictures: UInt8[np.ndarray, "views H W 4"]) -> list[float]:
    return [round(float(level), 4) for level in pictures.mean(axis=(1, 2, 3))]


def _triple(numbers: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = (float(number) for number in numbers)
    return first, second, third


def _folder() -> Any:
    return resources.files("zero123.evaluation") / "protocols"
