"""The figures as people read them: Markdown, one HTML page with pictures, and JSON."""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from zero123.evaluation.metrics import Metric
from zero123.evaluation.run import Answers, Evaluation, Result, question_of
from zero123.evaluation.scenes import Scene
from zero123.evaluation.statistics import Estimate, binned, over_objects
from zero123.images import contact_sheet, write_text

_BY_MOVE = ("PSNR (dB)", "SSIM", "PSNR inside (dB)", "camera obedience (rate)")
"""Figures whose change with the camera's move is printed; all are in the JSON."""
_PICTURED = "PSNR inside (dB)"
"""Best, median and worst are meant by this figure."""
_TILE = 160  # pixels
_NUM_PICTURED = 4  # targets an object
_PUBLISHED = (
    ("published: Zero-1-to-3", "18.378", "0.877", "0.088", "0.027"),
    ("published: trained on, Objaverse-XL", "18.545", "0.880", "0.084", "0.024"),
)
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}"
    "td,th{border:1px solid #bbb;padding:.25em .6em;text-align:left}"
    "th{background:#eee}img{max-width:100%}figure{margin:1em 0}"
)


@dataclass(frozen=True)
class Heading:
    """A line above a part."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Items:
    """Sentences, one a line."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A picture with a sentence; only the HTML page shows it."""

    picture: Image.Image
    caption: str


Block = Heading | Items | Table | Figure


def write_report(evaluation: Evaluation, out: Path) -> str:
    """Write ``report.md``, ``report.html`` and ``report.json``; the same figures, the same bytes.

    Returns:
        The Markdown.
    """
    blocks = _blocks(evaluation)
    markdown = as_markdown(blocks)
    write_text(markdown, out / "report.md")
    pictures = [
        figure
        for result in evaluation.results
        if result.scores
        for figure in _figures(evaluation, result, out)
    ]
    write_text(as_html([*blocks, Heading("Pictures"), *pictures]), out / "report.html")
    write_text(json.dumps(as_data(evaluation), indent=1) + "\n", out / "report.json")
    return markdown


def summary(
    result: Result, metric: Metric, number: int, best: bool = False
) -> tuple[Estimate, Float64[np.ndarray, " objects"]]:
    """A figure over all objects of a candidate, and each object's own.

    Args:
        result: the candidate's figures, of one object at least.
        metric: which.
        number: its row in the scores.
        best: of a view's samples take the best by this very figure; else their mean.
    """
    own = np.array(
        [float(_of_samples(row[number], metric, best).mean()) for row in result.scores.values()]
    )
    return over_objects(own), own


def _of_samples(
    scores: Float64[np.ndarray, "targets samples"], metric: Metric, best: bool
) -> Float64[np.ndarray, " targets"]:
    if not best:
        return np.asarray(scores.mean(axis=1))
    return np.asarray(scores.max(axis=1) if metric.better == "higher" else scores.min(axis=1))


def _blocks(evaluation: Evaluation) -> list[Block]:
    trial, tools = evaluation.trial, evaluation.tools
    metrics = (*tools.metrics, *(one.metric for net in tools.nets for one in net.metrics))
    blocks: list[Block] = [
        Heading(f"Evaluation on {trial.title}", 1),
        Items(
            (
                *trial.about,
                f"{trial.samples} sample(s) a view, seed {trial.seed}, sampler: "
                + ("the authors' own" if trial.sampler == "original" else "each model's own"),
                f"SHA-256 of all its pictures and cameras: {evaluation.digest}",
            )
        ),
        Heading("Candidates"),
        Items(
            tuple(
                f"{r.candidate.name}: "
                + ", ".join(f"{key} {value}" for key, value in r.candidate.settings.items())
                for r in evaluation.results
            )
        ),
        Heading("Figures"),
        _figures_table(evaluation, best=False),
    ]
    if trial.samples > 1:
        blocks += [
            Heading(f"Figures, the best of {trial.samples} samples of each view"),
            Items(("the best by each row's own figure, chosen knowing the truth",)),
            _figures_table(evaluation, best=True),
        ]
    blocks += [
        Heading("What the rows mean"),
        Items(
            (
                *(f"{m.title}, {m.better} is better: {m.definition}" for m in metrics),
                "mean over objects of the mean over views"
                + (" of the mean over samples" if trial.samples > 1 else "")
                + "; in brackets the 95 % bootstrap interval over objects",
            )
        ),
    ]
    if tools.missing:
        blocks += [
            Heading("Not computed"),
            Items(tuple(f"{each.title}: {each.reason}" for each in tools.missing)),
        ]
    blocks += [Heading("Failures"), Items(_failures(evaluation))]
    if evaluation.notes:
        blocks += [Heading("Notes"), Items(evaluation.notes)]
    return [
        *blocks,
        Heading("By the camera's move"),
        Items(("angles from the photo's seat to the view's; the number of views in parentheses",)),
        _moves_table(evaluation),
        Heading("In the layout of the original's table"),
        Items(
            (
                "the published rows state neither objects, LPIPS network, FID layer nor sampler: "
                "they stand beside, not in comparison",
            )
        ),
        _published_table(evaluation),
        Heading("By object"),
        Items((f"{_PICTURED}",)),
        _objects_table(evaluation),
    ]


def _figures_table(evaluation: Evaluation, best: bool) -> Table:
    results, tools = evaluation.results, evaluation.tools
    rows = []
    for number, metric in enumerate(tools.metrics):
        cells = [
            _interval(summary(r, metric, number, best)[0], metric.digits) if r.scores else "–"
            for r in results
        ]
        chance = "" if metric.chance is None else f"{_chance(evaluation, metric):.{metric.digits}f}"
        perfect = f"{metric.perfect:.{metric.digits}f}"
        rows.append((_arrowed(metric), *cells, perfect, chance))
    for net in tools.nets if not best else ():
        for one in net.metrics:
            metric = one.metric
            found = [r.distances.get(metric.title) for r in results]
            cells = ["–" if each is None else f"{each:.{metric.digits}f}" for each in found]
            rows.append((_arrowed(metric), *cells, f"{metric.perfect:.{metric.digits}f}", ""))
    rows += [
        (each.title, *("not computed" for _ in results), "", "")
        for each in (tools.missing if not best else ())
    ]
    asked = len(evaluation.trial.names)
    counts = [f"{len(r.scores)} of {asked}" for r in results]
    names = [r.candidate.name for r in results]
    return Table(
        ("figure", *names, "the truth itself", "chance"),
        (*rows, ("objects in the figures", *counts, "", "")),
    )


def _chance(evaluation: Evaluation, metric: Metric) -> float:
    assert metric.chance is not None
    chances = [metric.chance(len(targets)) for _, targets in evaluation.seats.values()]
    return float(np.mean(chances))


def _moves_table(evaluation: Evaluation) -> Table:
    results = evaluation.results
    moves = {name: binned(photo, targets) for name, (photo, targets) in evaluation.seats.items()}
    rows = []
    for number, metric in enumerate(evaluation.tools.metrics):
        if metric.title not in _BY_MOVE:
            continue
        for each in next(iter(moves.values())):
            views = sum(int(moves[name][each].sum()) for name in moves)
            if views == 0:
                continue
            cells = []
            for r in results:
                inside = [
                    scores[number][moves[name][each]].mean()
                    for name, scores in r.scores.items()
                    if moves[name][each].any()
                ]
                found = over_objects(np.array(inside)) if inside else None
                cells.append("–" if found is None else _interval(found, metric.digits))
            rows.append((_arrowed(metric), f"{each.title} ({views})", *cells))
    return Table(("figure", "move", *(r.candidate.name for r in results)), tuple(rows))


def _published_table(evaluation: Evaluation) -> Table:
    titles = [metric.title for metric in evaluation.tools.metrics]

    def cell(result: Result, title: str) -> str:
        if title in result.distances:
            return f"{result.distances[title]:.3f}"
        if title not in titles or not result.scores:
            return "not computed"
        number = titles.index(title)
        return f"{summary(result, evaluation.tools.metrics[number], number)[0].mean:.3f}"

    columns = ("PSNR (dB)", "SSIM", "LPIPS (alex)", "FID (64)")
    ours = [(r.candidate.name, *(cell(r, title) for title in columns)) for r in evaluation.results]
    header = ("Zero123", "PSNR (↑)", "SSIM (↑)", "LPIPS (alex) (↓)", "FID (64) (↓)")
    return Table(header, (*ours, *_PUBLISHED))


def _objects_table(evaluation: Evaluation) -> Table:
    number, metric = _pictured(evaluation)
    rows = []
    for name in evaluation.trial.names:
        cells = [
            f"{r.scores[name][number].mean():.{metric.digits}f}" if name in r.scores else "failed"
            for r in evaluation.results
        ]
        rows.append((name, *cells))
    return Table(("object", *(r.candidate.name for r in evaluation.results)), tuple(rows))


def _pictured(evaluation: Evaluation) -> tuple[int, Metric]:
    metrics = evaluation.tools.metrics
    number = [metric.title for metric in metrics].index(_PICTURED)
    return number, metrics[number]


def _failures(evaluation: Evaluation) -> tuple[str, ...]:
    told = tuple(f"{f.candidate}, {f.name}: {f.reason}" for f in evaluation.failures)
    return told or ("none",)


def _figures(evaluation: Evaluation, result: Result, out: Path) -> list[Figure]:
    """Best, median and worst object of a candidate."""
    number, metric = _pictured(evaluation)
    _, own = summary(result, metric, number)
    names = list(result.scores)
    order = [names[index] for index in np.argsort(-own, kind="stable")]
    picks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    answers = Answers(out / "answers", result.candidate)
    figures = []
    for place, name in picks.items():
        scene = evaluation.trial.open(name)
        kept = answers.load(name, question_of(evaluation.trial, scene))
        assert kept is not None
        value = own[names.index(name)]
        figures.append(
            Figure(
                _sheet(scene, kept[0][:, 0]),
                f"{result.candidate.name}, {place} object by {metric.title}: {name}, "
                f"{value:.{metric.digits}f}. Rows: target, view, error (white: 128 of 255 levels).",
            )
        )
    return figures


def _sheet(scene: Scene, views: UInt8[np.ndarray, "targets H W 3"]) -> Image.Image:
    count = len(scene.seats)
    shown = sorted({round(k * (count - 1) / (_NUM_PICTURED - 1)) for k in range(_NUM_PICTURED)})
    truths = scene.on_white
    tiles, captions = [scene.photo], ["photo"]
    blank = np.full_like(scene.photo, 255)
    for row in ("target", "view", "error"):
        if row != "target":
            tiles.append(blank)
            captions.append("")
        for at in shown:
            seat = scene.seats[at]
            turn = math.degrees(math.remainder(seat.azimuth - scene.seat.azimuth, math.tau))
            climb = math.degrees(seat.elevation - scene.seat.elevation)
            tiles.append(
                {
                    "target": truths[at],
                    "view": views[at],
                    "error": error_map(views[at], truths[at]),
                }[row]
            )
            captions.append(f"turn {turn:+.0f}°, climb {climb:+.0f}°" if row == "target" else row)
    small = [Image.fromarray(t).resize((_TILE, _TILE), Image.Resampling.LANCZOS) for t in tiles]
    return contact_sheet(small, captions, len(shown) + 1)


def error_map(
    made: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Mean absolute difference of the channels: black, red, yellow, white for 0 to 128 and more."""
    apart = np.abs(made.astype(np.float32) - truth.astype(np.float32)).mean(axis=-1) / 128
    heat = np.clip(3 * apart[..., None] - np.arange(3, dtype=np.float32), 0, 1)
    shown: UInt8[np.ndarray, "H W 3"] = np.round(255 * heat).astype(np.uint8)
    return shown


def _arrowed(metric: Metric) -> str:
    return f"{metric.title} {'↑' if metric.better == 'higher' else '↓'}"


def _interval(found: Estimate, digits: int) -> str:
    if found.objects == 1:
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def as_markdown(blocks: Sequence[Block]) -> str:
    """Write blocks as GitHub's Markdown; pictures are left out."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append("#" * level + " " + text)
            case Items(lines):
                parts.append("\n".join(f"- {line}" for line in lines))
            case Table(header, rows):
                table = [header, tuple("---" for _ in header), *rows]
                escaped = [[cell.replace("|", "\\|") for cell in row] for row in table]
                parts.append("\n".join(f"| {' | '.join(row)} |" for row in escaped))
            case Figure():
                pass
    return "\n\n".join(parts) + "\n"


def as_html(blocks: Sequence[Block]) -> str:
    """Write blocks as one page that needs no other file."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    parts = [
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
    ]
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"<h{level}>{html.escape(text)}</h{level}>")
            case Items(lines):
                items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
                parts.append(f"<ul>{items}</ul>")
            case Table(header, rows):
                top = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
                body = "".join(_html_row(row) for row in rows)
                parts.append(f"<table><tr>{top}</tr>{body}</table>")
            case Figure(picture, caption):
                said = html.escape(caption)
                parts.append(
                    f'<figure><figcaption>{said}</figcaption><img alt="{said}" '
                    f'src="data:image/webp;base64,{_encoded(picture)}"></figure>'
                )
    return "\n".join(parts) + "\n</html>\n"


def _html_row(row: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"


def _encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=90)
    return base64.b64encode(buffer.getvalue()).decode()


def as_data(evaluation: Evaluation) -> dict[str, object]:
    """All figures of every view, for programs; without what differs from run to run."""
    trial, tools = evaluation.trial, evaluation.tools

    def told(result: Result) -> dict[str, object]:
        kinds = ("mean of samples", "best of samples") if result.scores else ()
        means = {
            kind: {
                metric.title: asdict(summary(result, metric, number, kind == "best of samples")[0])
                for number, metric in enumerate(tools.metrics)
            }
            for kind in kinds
        }
        views = {
            name: {
                metric.title: np.round(scores[number], 6).tolist()
                for number, metric in enumerate(tools.metrics)
            }
            for name, scores in result.scores.items()
        }
        return {
            "name": result.candidate.name,
            "settings": dict(result.candidate.settings),
            "figures": means,
            "distances": dict(result.distances),
            "views": views,
        }

    def described(metric: Metric) -> dict[str, object]:
        return {
            "title": metric.title,
            "definition": metric.definition,
            "better": metric.better,
            "perfect": metric.perfect,
        }

    return {
        "title": trial.title,
        "about": list(trial.about),
        "digest": evaluation.digest,
        "samples": trial.samples,
        "seed": trial.seed,
        "sampler": trial.sampler,
        "objects": {
            name: {"photo": asdict(photo), "targets": [asdict(target) for target in targets]}
            for name, (photo, targets) in evaluation.seats.items()
        },
        "metrics": [
            described(m)
            for m in (*tools.metrics, *(one.metric for net in tools.nets for one in net.metrics))
        ],
        "not_computed": [asdict(each) for each in tools.missing],
        "failures": [asdict(each) for each in evaluation.failures],
        "notes": list(evaluation.notes),
        "candidates": [told(result) for result in evaluation.results],
    }
