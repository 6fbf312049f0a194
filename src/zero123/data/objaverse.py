"""Objaverse and Objaverse-XL, through the package ``objaverse``: its annotations, its cache.

A source is written ``objaverse:`` or ``objaverse-xl:``, then filters with commas between them:
``objaverse:category=mug,category=bowl,licence=by,megabytes=20``. Of one filter any value may hold,
and all filters must.

| filter | of | value |
|---|---|---|
| licence | both | as annotated; Creative Commons ones in short: cc0, by, by-sa, by-nc ... |
| category | objaverse | an LVIS category: mug, armchair, dog ... |
| source | objaverse-xl | github, thingiverse, smithsonian or sketchfab |
| type | objaverse-xl | glb, obj, fbx ... |
| megabytes | both | size of the largest file to download |
"""

import gzip
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from huggingface_hub import constants

from zero123.data.downloads import download
from zero123.data.items import Download, Item
from zero123.data.report import Skipped
from zero123.data.sources import MESH_ENDINGS

XL_SOURCES = ("github", "smithsonian", "sketchfab", "thingiverse")
_OBJECT_PATH = re.compile(r"glbs/[\w-]+/[\w-]+\.glb")
_CREATIVE_COMMONS = {
    "attribution": "by",
    "noncommercial": "nc",
    "noderivatives": "nd",
    "noderivs": "nd",
    "sharealike": "sa",
}


def objaverse_items(
    query: str, cache: Path | None = None, hub: str = constants.ENDPOINT
) -> Iterator[Item]:
    """List objects of Objaverse 1.0 in the order of their paths; none is downloaded yet.

    Args:
        query: filters, see the module.
        cache: the package's folder of downloads; None for its own, ``~/.objaverse``.
        hub: where Hugging Face's hub, or a mirror of it, answers.

    Raises:
        ValueError: for a filter that is none, or that lets nothing through.
        ConnectionError: if the annotations cannot be had.
    """
    shelf = _Shelf.open(cache, hub)
    filters = _Filters.parse("objaverse", query, ("licence", "category", "megabytes"))
    paths = shelf.object_paths()
    wanted = set(paths)
    if filters.values["category"]:
        categories = shelf.categories()
        for category in filters.values["category"]:
            if category not in categories:
                raise ValueError(f"objaverse: has no LVIS category {category!r}")
        wanted = {uid for c in filters.values["category"] for uid in categories[c]}
    rows = {_uid(row["fileIdentifier"]): row for row in shelf.annotations("sketchfab")}
    chosen = [uid for uid in rows if uid in wanted and uid in paths]
    filters.refuse_unknown_licences(rows[uid] for uid in chosen)
    for uid in sorted(chosen, key=lambda uid: paths[uid]):
        if filters.let_through(rows[uid]):
            yield shelf.item(rows[uid], uid, f"objaverse:{uid}", paths, filters.largest)


def objaverse_xl_items(
    query: str, cache: Path | None = None, hub: str = constants.ENDPOINT
) -> Iterator[Item]:
    """List objects of Objaverse-XL, source by source in the order of their identifiers.

    A file of GitHub comes alone: the material of an .obj, or the picture beside a .gltf, does not.

    Args and errors: as for ``objaverse_items``.
    """
    shelf = _Shelf.open(cache, hub)
    filters = _Filters.parse("objaverse-xl", query, ("licence", "source", "type", "megabytes"))
    for source in filters.values["source"]:
        if source not in XL_SOURCES:
            raise ValueError(f"objaverse-xl: has no source {source!r}: {', '.join(XL_SOURCES)}")
    for source in filters.values["source"] or XL_SOURCES:
        rows = [
            row
            for row in shelf.annotations(source)
            if f".{row['fileType'].lower()}" in MESH_ENDINGS
        ]
        filters.refuse_unknown_licences(rows)
        paths = shelf.object_paths() if source == "sketchfab" else {}
        for row in sorted(rows, key=lambda row: str(row["fileIdentifier"])):
            name = f"{source}_{row['sha256'][:16]}"
            if not filters.let_through(row):
                continue
            if source == "sketchfab":
                name = _uid(row["fileIdentifier"])
                if name not in paths:
                    continue
            yield shelf.item(row, name, row["fileIdentifier"], paths, filters.largest)


@dataclass(frozen=True)
class _Filters:
    scheme: str
    values: dict[str, list[str]]
    """By filter; empty lets all through."""
    largest: int | None
    """Bytes."""

    @classmethod
    def parse(cls, scheme: str, query: str, known: tuple[str, ...]) -> "_Filters":
        values: dict[str, list[str]] = {name: [] for name in known}
        for word in filter(None, query.split(",")):
            name, equals, value = word.partition("=")
            if not equals or name not in known:
                raise ValueError(f"{scheme}:{word} is no filter: write {'=, '.join(known)}=")
            values[name].append(value if name == "category" else value.lower())
        largest = None
        for size in values["megabytes"]:
            try:
                largest = round(float(size) * 1e6)
            except (ValueError, OverflowError):
                largest = 0
            if not (largest > 0 and math.isfinite(float(size))):
                raise ValueError(f"{scheme}:megabytes must be a positive number, got {size}")
        return cls(scheme, values, largest)

    def let_through(self, row: dict[str, Any]) -> bool:
        licences, types = self.values["licence"], self.values.get("type")
        return (not licences or _licence(row) in licences) and (
            not types or row["fileType"].lower() in types
        )

    def refuse_unknown_licences(self, rows: Any) -> None:
        if self.values["licence"]:
            known = {_licence(row) for row in rows}
            for licence in self.values["licence"]:
                if licence not in known:
                    listed = ", ".join(sorted(filter(None, known)))
                    raise ValueError(f"{self.scheme}:licence={licence} is none of theirs: {listed}")


@dataclass(frozen=True)
class _Shelf:
    """The package's folder of downloads, and where its files come from."""

    folder: Path
    hub: str

    @classmethod
    def open(cls, folder: Path | None, hub: str) -> "_Shelf":
        try:
            import objaverse
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                "Objaverse needs its package: pip install 'zero123[data]'"
            ) from missing
        return cls(Path(objaverse.BASE_PATH) if folder is None else folder, hub)

    def object_paths(self) -> dict[str, str]:
        """Where the hub keeps each object of Objaverse 1.0, by uid."""
        paths: dict[str, str] = self._json("object-paths.json.gz")
        # they become file names here
        return {uid: path for uid, path in paths.items() if _OBJECT_PATH.fullmatch(path)}

    def categories(self) -> dict[str, list[str]]:
        """Uids of each LVIS category."""
        categories: dict[str, list[str]] = self._json("lvis-annotations.json.gz")
        return categories

    def annotations(self, source: str) -> list[dict[str, Any]]:
        """What Objaverse-XL says of the objects of a source, read by its package."""
        name = f"{source}/{source}.parquet"
        self._fetch(f"datasets/allenai/objaverse-xl/resolve/main/{name}", self.folder / name)
        from objaverse.xl import downloaders

        frame = downloaders[source].get_annotations(download_dir=str(self.folder))
        rows: list[dict[str, Any]] = frame.to_dict("records")
        return rows

    def item(
        self,
        row: dict[str, Any],
        name: str,
        source: str,
        paths: dict[str, str],
        largest: int | None,
    ) -> Item:
        identifier, sha256 = str(row["fileIdentifier"]), str(row["sha256"])
        if row["source"] == "sketchfab":
            path = paths[_uid(identifier)]
            url = f"{self.hub}/datasets/allenai/objaverse/resolve/main/{path}"
            place = f"hf-objaverse-v1/{path}"
        elif row["source"] == "thingiverse":
            number = parse_qs(urlsplit(identifier).query)["fileId"][0]
            url = f"https://www.thingiverse.com/download:{number}"
            place = f"thingiverse/files/{sha256}.stl"
        else:
            url = identifier.replace("/blob/", "/raw/", 1)
            place = f"{row['source']}/files/{sha256}.{row['fileType'].lower()}"
        return Item(
            name, source, Download(url, self.folder / place, sha256, largest), _licence(row)
        )

    def _json(self, name: str) -> Any:
        path = self.folder / "hf-objaverse-v1" / name
        self._fetch(f"datasets/allenai/objaverse/resolve/main/{name}", path)
        with gzip.open(path) as file:
            return json.load(file)

    def _fetch(self, where: str, path: Path) -> None:
        try:
            download(f"{self.hub}/{where}", path)
        except Skipped as problem:
            raise ConnectionError(
                f"the list of objects cannot be had: {problem.detail}"
            ) from problem


def _uid(identifier: str) -> str:
    return identifier.rstrip("/").rpartition("/")[2]


def _licence(row: dict[str, Any]) -> str:
    """Licence in lower case; Creative Commons ones in their short form."""
    text = str(row["license"] or "").lower()
    if "creative commons" not in text:
        return text
    if "zero" in text or "public domain" in text:
        return "cc0"
    words = re.sub(r"[- ]", "", text)
    return "-".join(short for long, short in _CREATIVE_COMMONS.items() if long in words)
