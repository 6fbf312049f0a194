import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure
from toy import oracle, scene

from zero123.evaluation.candidates import Question, baselines
from zero123.evaluation.metrics import (
    BEST_PSNR,
    OBEDIENCE,
    PIXELS,
    flip,
    mask_iou,
    object_mask,
    psnr,
    ranks,
    ssim_map,
)
from zero123.geometry import Orbit


def pair(seed, size=40):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 256, (size, size, 3), np.uint8)
    made = np.clip(truth + rng.normal(0, 5 + 3 * seed, truth.shape), 0, 255).astype(np.uint8)
    return made, truth


def judged(judge, made, of):
    return dict(zip((m.title for m in judge.metrics), judge.look_at(of)(made), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_psnr_and_ssim_are_those_of_others(seed):
    made, truth = pair(seed)
    assert psnr(made, truth) == pytest.approx(peak_signal_noise_ratio(truth, made), abs=1e-9)
    inner = ssim_map(made, truth)[5:-5, 5:-5].mean()
    theirs = structural_similarity(
        truth,
        made,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert inner == pytest.approx(theirs, abs=1e-9)
    batch = [torch.from_numpy(p.astype(np.float64)).permute(2, 0, 1)[None] for p in (made, truth)]
    _, third = structural_similarity_index_measure(
        *batch, data_range=255.0, sigma=1.5, return_full_image=True
    )
    assert inner == pytest.approx(float(third[..., 5:-5, 5:-5].mean()), abs=1e-6)


def test_psnr_by_hand():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr(black, grey) == pytest.approx(20 * np.log10(5))
    assert psnr(grey, grey) == BEST_PSNR


def test_the_truth_is_perfect_in_every_figure():
    one = scene("one")
    for judge in (PIXELS, OBEDIENCE, flip()):
        scores = judge.look_at(one)(one.on_white)
        for metric, score in zip(judge.metrics, scores, strict=True):
            assert score == pytest.approx(metric.perfect, abs=1e-12), metric.title


def test_figures_inside_do_not_see_the_ground():
    one = scene("one")
    painted = one.on_white.copy()
    painted[~one.masks] = (200, 30, 30)
    scores = judged(PIXELS, painted, one)
    assert (scores["PSNR inside (dB)"] == BEST_PSNR).all()
    assert (scores["PSNR (dB)"] < 12).all()


def test_mask_iou_of_shifted_squares():
    first, second = np.zeros((2, 20, 20), bool)
    first[5:15, 5:15], second[5:15, 10:20] = True, True
    assert mask_iou(first, second) == pytest.approx(50 / 150)
    assert mask_iou(first & False, second & False) == 1


def test_a_hole_in_the_ground_colour_belongs_to_the_object():
    picture = np.full((20, 20, 3), 255, np.uint8)
    picture[4:16, 4:16] = 90
    picture[8:12, 8:12] = 255
    assert object_mask(picture).sum() == 144


def test_who_takes_no_notice_of_the_seat_obeys_by_chance():
    one = scene("two")
    question = Question(one.photo, one.seat, one.seats)
    for blind in baselines()[:2]:
        scores = OBEDIENCE.look_at(one)(blind.answer(question)[:, 0])
        for metric, score in zip(OBEDIENCE.metrics, scores, strict=True):
            assert metric.chance is not None
            assert score.mean() == pytest.approx(metric.chance(len(one.seats))), metric.title


def test_shuffled_truths_obey_by_chance_on_average():
    one = scene("two")
    rng = np.random.default_rng(0)
    found = [ranks(one.on_white[rng.permutation(6)], one.on_white) for _ in range(400)]
    assert np.mean([rate.mean() for rate, _ in found]) == pytest.approx(1 / 6, abs=0.03)
    assert np.mean([rank.mean() for _, rank in found]) == pytest.approx(3.5, abs=0.15)


def test_a_tie_counts_as_its_share():
    white = np.full((4, 8, 8, 3), 255, np.uint8)
    rate, rank = ranks(white, white)
    assert rate.tolist() == [0.25] * 4
    assert rank.tolist() == [2.5] * 4


def mirrored(seat, to):
    return Orbit(to.polar, 2 * seat.azimuth - to.azimuth, to.radius)


def test_a_wrong_turn_and_a_shifted_pixel_are_told_apart():
    one = scene("three")
    question = Question(one.photo, one.seat, one.seats)
    turned = oracle(seen=mirrored).answer(question)[:, 0]
    shifted = np.roll(one.on_white, 1, axis=2)
    assert OBEDIENCE.look_at(one)(shifted)[0].mean() == 1
    assert OBEDIENCE.look_at(one)(turned)[0].mean() <= 0.5
    assert judged(PIXELS, shifted, one)["PSNR (dB)"].max() < BEST_PSNR
    assert judged(PIXELS, shifted, one)["SSIM"].mean() > judged(PIXELS, turned, one)["SSIM"].mean()


@settings(deadline=None, max_examples=20)
@given(level=st.integers(0, 255))
def test_more_noise_never_raises_psnr(level):
    flat = np.full((16, 16, 3), level, np.uint8)
    noise = np.random.default_rng(level).normal(0, 1, flat.shape)
    worse = [psnr(np.clip(flat + s * noise, 0, 255).astype(np.uint8), flat) for s in (5, 20, 60)]
    assert worse == sorted(worse, reverse=True)
