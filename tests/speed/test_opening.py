"""--speed as a user says it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zero123 import Zero123Pipeline
from zero123.app.cli import main
from zero123.app.opening import Opening
from zero123.geometry import Orbit
from zero123.images import FramedPhoto
from zero123.reconstruct.score import Scorer
from zero123.speed import ALWAYS, accelerate, preset, restore
from zero123.speed.accelerate import settled
from zero123.speed.telling import FastTell

COFFEE = Path(__file__).parents[2] / "examples" / "coffee.png"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened, dtype=np.float64) / 255


def seen(out: Path, *words: str) -> np.ndarray:
    main(["view", str(COFFEE), "--steps", "3", "-o", str(out), *words])
    return pixels(out)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """A view as no switch has touched it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zero123.speed.accelerate", lambda pipe, _: pipe)
        return seen(tmp_path_factory.mktemp("plain") / "view.png")


@pytest.mark.parametrize("words", [(), ("--speed", "exact")])
def test_what_is_exact_shows_the_same_picture(
    plain: np.ndarray, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert np.abs(seen(tmp_path / "view.png", *words) - plain).max() <= 1.01 / 255  # one level


def test_little_memory_shows_nearly_the_same(plain: np.ndarray, tmp_path: Path) -> None:
    off = np.abs(seen(tmp_path / "view.png", "--speed", "low-memory") - plain)
    assert 0 < off.mean() < 0.02


@pytest.mark.parametrize("name", [None, "exact", "fast", "low-memory"])
def test_a_word_is_a_preset(name: str | None) -> None:
    pipe, _ = Opening(device="cpu", speed=name).open([COFFEE], exact=False)  # type: ignore[arg-type]
    assert isinstance(pipe.tell, FastTell)
    wanted = ALWAYS if name is None else preset(name, "cpu")
    assert pipe.tell.plan == settled(wanted, pipe.device)


def test_views_can_be_decoded_by_another(plain: np.ndarray, tmp_path: Path) -> None:
    """Here by the same decoder, which the other folder happens to hold."""
    Zero123Pipeline.from_pretrained("mini").vae.save_pretrained(tmp_path / "own")
    made = seen(tmp_path / "view.png", "--tiny-decoder", str(tmp_path / "own"))
    assert np.abs(made - plain).max() <= 1.01 / 255


def test_a_film_can_be_hurried_too(tmp_path: Path) -> None:
    main(["orbit", str(COFFEE), "--frames", "2", "--steps", "1", "--speed", "exact",
          "-o", str(tmp_path / "film.gif")])  # fmt: skip
    assert (tmp_path / "film.gif").stat().st_size > 1000


@torch.no_grad()
def test_a_switched_model_scores_an_object_the_same(mini: Zero123Pipeline) -> None:
    seat = Orbit(1.2, 0.0, 1.85)
    photo = FramedPhoto(torch.rand(3, 128, 128), torch.ones(1, 128, 128))
    scorer = Scorer.of(mini, photo, seat)
    noisy = torch.randn(1, *scorer.latent_shape)
    plain = scorer.denoise(noisy, 600, seat.moved(0.2, 1.0, 0.1), 3.0)
    accelerate(mini, "exact")
    switched = scorer.denoise(noisy, 600, seat.moved(0.2, 1.0, 0.1), 3.0)
    restore(mini)
    assert (switched - plain).abs().max() <= 1e-4 * plain.abs().max()


def test_without_a_compiler_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SystemExit, match="2"):
        seen(tmp_path / "view.png", "--speed", "fast")
    assert "compiling needs a C++ compiler, and there is none" in capsys.readouterr().err
