"""Ask every candidate about every object, keep the answers, and put figures on them."""

import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from diffusers.utils.logging import tqdm
from jaxtyping import Float32, Float64, UInt8

from zero123.evaluation.candidates import Candidate, Question
from zero123.evaluation.metrics import OBEDIENCE, PIXELS, Judge, Metric, Scorer
from zero123.evaluation.scenes import Scene, SceneError, Trial, digest_of
from zero123.files import written_whole
from zero123.geometry import Orbit

_CRASHES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a model may die of on one object; the others are still asked."""


@dataclass(frozen=True)
class SetMetric:
    """A distance between all true pictures and all made ones, in some features of theirs."""

    metric: Metric
    feature: str
    """Which of the network's features it takes."""
    distance: Callable[[Float32[np.ndarray, "n d"], Float32[np.ndarray, "m d"]], float]


@dataclass(frozen=True)
class FeatureNet:
    """A network that sees pictures as numbers, and the distances taken there."""

    extract: Callable[[UInt8[np.ndarray, "n H W 3"]], dict[str, Float32[np.ndarray, "n _"]]]
    metrics: tuple[SetMetric, ...]


@dataclass(frozen=True)
class Missing:
    """A figure that could not be computed here."""

    title: str
    reason: str


@dataclass(frozen=True)
class Toolbox:
    """What to measure with."""

    judges: tuple[Judge, ...] = (PIXELS, OBEDIENCE)
    nets: tuple[FeatureNet, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of single views, in the order of the scores."""
        return tuple(metric for judge in self.judges for metric in judge.metrics)


@dataclass(frozen=True)
class Failure:
    """An object that is not in the figures, and why."""

    candidate: str
    """Whose figures; "all" if the object itself could not be opened."""
    name: str
    reason: str


@dataclass(frozen=True)
class Result:
    """The figures of one candidate."""

    candidate: Candidate
    scores: Mapping[str, Float64[np.ndarray, "metrics targets samples"]]
    """By object, in the trial's order."""
    distances: Mapping[str, float]
    """By title of the set metric."""
    seconds_per_view: float
    """Not a number if no object was answered."""


@dataclass(frozen=True)
class Evaluation:
    """All figures of one run, and what a reader must know about them."""

    trial: Trial
    tools: Toolbox
    digest: str
    """SHA-256 over the pictures and seats of all objects that could be opened."""
    seats: Mapping[str, tuple[Orbit, tuple[Orbit, ...]]]
    """Of the photo and of the target views, by object that could be opened."""
    results: tuple[Result, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """Where a candidate's answers are kept: one file an object, whole or not at all."""

    folder: Path
    candidate: Candidate

    def load(
        self, name: str, question: Question
    ) -> tuple[UInt8[np.ndarray, "targets samples H W 3"], float] | None:
        """Answers to this very question and seconds per view, or None if there are none.

        Raises:
            ValueError: if they are to another question, by another candidate, or damaged.
        """
        path = self._path(name)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as kept:
                key, seconds, views = str(kept["key"]), float(kept["seconds"]), kept["views"]
        except (EOFError, LookupError, OSError, ValueError, zipfile.BadZipFile) as damaged:
            raise ValueError(f"{path} is damaged: remove it, then --resume") from damaged
        if key != self._key(question):
            raise ValueError(
                f"{path} answers another question, or is from another model: take a new folder"
            )
        return np.asarray(views), seconds

    def save(
        self,
        name: str,
        question: Question,
        views: UInt8[np.ndarray, "targets samples H W 3"],
        seconds: float,
    ) -> None:
        """Keep an object's answers, and the seconds per view that they took."""
        with written_whole(self._path(name)) as part:
            np.savez_compressed(part, key=self._key(question), seconds=seconds, views=views)

    def _path(self, name: str) -> Path:
        return self.folder / self.candidate.name / f"{name}.npz"

    def _key(self, question: Question) -> str:
        return digest_of(f"{question.digest} {self.candidate.fingerprint}".encode())


@dataclass
class _Tally:
    """What has been found out about a candidate so far."""

    answers: Answers
    scores: dict[str, Float64[np.ndarray, "metrics targets samples"]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    features: dict[tuple[int, str, str], list[Float32[np.ndarray, "n _"]]] = field(
        default_factory=dict
    )
    """By number of the net, feature, and "truth" or "made"."""

    def result(self, tools: Toolbox) -> Result:
        distances = {
            one.metric.title: one.distance(
                np.concatenate(self.features[number, one.feature, "truth"]),
                np.concatenate(self.features[number, one.feature, "made"]),
            )
            for number, net in enumerate(tools.nets)
            for one in net.metrics
            if self.scores
        }
        seconds = float(np.mean(self.seconds)) if self.seconds else float("nan")
        return Result(self.answers.candidate, self.scores, distances, seconds)


def evaluate(
    trial: Trial,
    candidates: Sequence[Candidate],
    out: Path,
    tools: Toolbox,
    resume: bool = False,
    quiet: bool = False,
) -> Evaluation:
    """Ask, keep, compare.

    A candidate that crashes on an object, and an object that cannot be opened, are told in the
    result; the rest is kept.

    Args:
        trial: what is asked.
        candidates: who answers; their names differ.
        out: answers are kept in its folder ``answers``.
        tools: what to measure with.
        resume: take the answers that are there already; else there must be none.
        quiet: no progress bar.

    Raises:
        ValueError: if there are answers without ``resume``, if they are to other questions, or if
            no object could be opened.
    """
    check_place(out, resume)
    tallies = [_Tally(Answers(out / "answers", candidate)) for candidate in candidates]
    failures, notes, digests = [], [], []
    seats: dict[str, tuple[Orbit, tuple[Orbit, ...]]] = {}
    with tqdm(total=len(trial.names) * len(candidates), unit="object", disable=quiet) as bar:
        for name in trial.names:
            try:
                scene = trial.open(name)
            except SceneError as error:
                failures.append(Failure("all", name, str(error)))
                bar.update(len(candidates))
                continue
            seats[name] = scene.seat, scene.seats
            digests.append(scene.digest)
            notes += [f"{name}: {note}" for note in scene.notes]
            truth = _Truth.of(scene, tools)
            for tally in tallies:
                bar.set_description(f"{tally.answers.candidate.name}, {name}")
                reason = _asked(trial, truth, tools, tally)
                if reason:
                    failures.append(Failure(tally.answers.candidate.name, name, reason))
                bar.update()
    if not seats:
        raise ValueError(f"{trial.title}: no object can be used; the first: {failures[0].reason}")
    return Evaluation(
        trial=trial,
        tools=tools,
        digest=digest_of(" ".join(digests).encode()),
        seats=seats,
        results=tuple(tally.result(tools) for tally in tallies),
        failures=tuple(failures),
        notes=tuple(notes),
    )


def check_place(out: Path, resume: bool) -> None:
    """Refuse early what could not be written, or would mix with what is there.

    Raises:
        ValueError: if ``out`` is a file, or holds answers without ``resume``.
    """
    if out.is_file():
        raise ValueError(f"{out} is a file, not a folder: name a new folder")
    if not resume and (out / "answers").exists():
        raise ValueError(f"{out} holds answers: --resume goes on with them, or name a new folder")


def question_of(trial: Trial, scene: Scene) -> Question:
    """What a candidate is told of a scene."""
    return Question(scene.photo, scene.seat, scene.seats, trial.samples, trial.seed)


@dataclass(frozen=True)
class _Truth:
    """A scene, and what the judges and the networks saw of it."""

    scene: Scene
    scorers: tuple[Scorer, ...]
    features: tuple[dict[str, Float32[np.ndarray, "n _"]], ...]

    @classmethod
    def of(cls, scene: Scene, tools: Toolbox) -> "_Truth":
        scorers = tuple(judge.look_at(scene) for judge in tools.judges)
        return cls(scene, scorers, tuple(net.extract(scene.on_white) for net in tools.nets))


def _asked(trial: Trial, truth: _Truth, tools: Toolbox, tally: _Tally) -> str:
    """Have an object's answers on disk and its figures noted; the reason if that failed."""
    scene, answers = truth.scene, tally.answers
    question = question_of(trial, scene)
    kept = answers.load(scene.name, question)
    if kept is None:
        started = time.perf_counter()
        try:
            views = answers.candidate.answer(question)
        except _CRASHES as error:
            return f"{type(error).__name__}: {error}"
        wanted = (len(scene.seats), trial.samples, *scene.photo.shape)
        if views.shape != wanted:
            return f"answered with shape {views.shape} where {wanted} was asked"
        kept = views, (time.perf_counter() - started) / (wanted[0] * wanted[1])
        answers.save(scene.name, question, *kept)
    views, seconds = kept
    tally.seconds.append(seconds)
    tally.scores[scene.name] = np.stack(
        [
            np.concatenate([score(views[:, sample]) for score in truth.scorers])
            for sample in range(trial.samples)
        ],
        axis=-1,
    )
    for number, (net, true) in enumerate(zip(tools.nets, truth.features, strict=True)):
        for side, features in (("truth", true), ("made", net.extract(views[:, 0]))):
            for feature, rows in features.items():
                tally.features.setdefault((number, feature, side), []).append(rows)
    return ""
