import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zero123.app.cli import main
from zero123.app.evaluate import Evaluate
from zero123.data import Lighting, procedural_mesh, render
from zero123.evaluation.scenes import Scene, Trial, on_white
from zero123.geometry import Orbit
from zero123.speed.drawn import TINY, drawn_pipeline
from zero123.speed.ladder import climb, ladder, twin
from zero123.speed.measure import Sameness, measured
from zero123.speed.plan import EXACT, PRESETS


def test_a_ladder_is_measured_and_written(tmp_path, capsys):
    main(
        [
            *f"bench --model tiny-random --steps 2 --repeats 2 --out {tmp_path} --rungs".split(),
            *("plain", "exact", "exact, deep every 2"),
        ]
    )
    table = (tmp_path / "speed-cpu-tiny-random.md").read_text()
    assert table.strip() in capsys.readouterr().out
    told = json.loads((tmp_path / "speed-cpu-tiny-random.json").read_text())
    plain, exact, deep = told["rungs"]
    assert plain["sameness"]["largest"] == 0
    assert plain["sameness"]["psnr"] is None  # infinite
    assert exact["sameness"]["largest"] <= 1e-4 < deep["sameness"]["largest"]
    assert len(exact["costs"]) == len(exact["plain"]) == 2
    assert exact["weights_mib"] > plain["weights_mib"]  # sub-pixel taps: 16 for 9
    assert told["versions"]["torch"] == torch.__version__
    with Image.open(tmp_path / "speed-cpu-tiny-random.png") as plot:
        assert np.array(plot).std() > 10


def scene(name):
    """A made-up object, whose photo and two other sides are 64 pixels wide."""
    seats = [Orbit(1.2, turn, 1.85) for turn in (0.0, 1.0, 2.5)]
    pictures = render(procedural_mesh(int(name)), seats, 64, Lighting())
    return Scene(name, on_white(pictures[0]), seats[0], pictures[1:], tuple(seats[1:]))


def test_rungs_are_judged_against_the_truth(tmp_path, capsys, monkeypatch):
    trial = Trial("made up", (), ("3", "11"), scene)
    monkeypatch.setattr(Evaluate, "trial", lambda _: trial)
    main(
        [
            *f"bench --quality --steps 3 --guidance 2 --out {tmp_path} --rungs".split(),
            *("exact", "exact, deep every 2"),
        ]
    )
    table = (tmp_path / "quality-cpu-mini.md").read_text()
    assert "mini on cpu, 3 steps, guidance 2" in table
    assert table.strip() in capsys.readouterr().out
    told = json.loads((tmp_path / "quality-cpu-mini.json").read_text())
    plain, exact, deep = told["losses"]
    assert [loss["name"] for loss in told["losses"]] == ["plain", "exact", "exact, deep every 2"]
    assert plain["lost"]["mean"] == 0
    assert plain["moved"] == 100  # dB: the same bytes
    assert abs(exact["lost"]["mean"]) < 0.01
    assert exact["moved"] > 50 > deep["moved"]
    assert plain["psnr"]["objects"] == 2


def test_a_twin_shares_weights_and_nothing_else():
    pipe = drawn_pipeline(TINY)
    other = twin(pipe)
    pairs = zip(pipe.unet.parameters(), other.unet.parameters(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() and a is not b for a, b in pairs)
    (rung,) = climb(pipe, {"exact": EXACT}, steps=2, repeats=1)
    assert not any(weight.stride()[-1:] == (0,) for weight in pipe.unet.parameters())
    assert rung.times_as_fast("cpu_seconds") > 0
    assert rung.memory_mib > rung.weights_mib


def test_what_a_call_takes_is_seen():
    def call(tick):
        for _ in range(3):
            held = torch.ones(200 * 2**20 // 4)  # 200 MiB
            sum(range(2_000_000))
            tick()
        return held[:1]

    made, cost = measured(call, torch.device("cpu"))
    assert made.item() == 1
    assert 150 < cost.rise_mib < 900
    assert cost.cpu_seconds >= 3 * cost.step_cpu_seconds * 0.5 > 0


def test_sameness_says_how_far():
    same = Sameness.of(torch.full((4,), 0.5), torch.tensor([0.5, 0.5, 0.5, 0.6]))
    assert same.largest == pytest.approx(0.1)
    assert same.mean == pytest.approx(0.025)
    assert same.psnr == pytest.approx(10 * np.log10(1 / 0.0025))


def test_rungs_suit_the_device():
    assert set(PRESETS) < set(ladder((), "cpu"))
    assert ladder((), "cpu")["exact"].winograd > ladder((), "cuda")["exact"].winograd
    assert ladder((), "cuda")["low-memory"].offloaded
    assert list(ladder(["turbo", "plain"], "cpu")) == ["turbo", "plain"]
    assert {ladder(["fast"], kind)["fast"].engine for kind in ("cpu", "cuda")} == {"compiled"}
    assert "openvino" not in ladder((), "cuda")
    small = ladder(["exact, tiny decoder"], "cpu", Path("taesd"))
    assert small["exact, tiny decoder"].tiny_decoder == Path("taesd")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rungs", "warp"], "no rung 'warp': one of plain"),
        (["--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["--quality"], "--data gso30 needs --meshes"),
        (["--steps", "0"], "--steps must be in 1 to 1000, got 0"),
        (["--guidance", "2", "--peer", "."], "--peer is guided as its demo is"),
        (["--guidance", "0.5"], "--guidance must be at least 1, got 0.5"),
    ],
)
def test_what_cannot_be_measured_is_told(options, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *options])
    assert sentence in capsys.readouterr().err
