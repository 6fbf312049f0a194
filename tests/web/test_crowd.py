"""Many people at once, for a minute."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from zero123.images import frame, matte, read_image

SECONDS = 60
COLOURS = ["red", "green", "blue", "orange", "purple", "teal", "black", "brown"]
POSE = (40, 10, 0)


def photo(colour):
    picture = Image.new("RGB", (96, 96), "white")
    picture.paste(colour, (24, 24, 72, 72))
    held = io.BytesIO()
    picture.save(held, "PNG")
    return held.getvalue()


def levels(picture):
    with Image.open(io.BytesIO(picture)) as opened:
        return np.asarray(opened.convert("RGB"), dtype=float)


def expected(pipe, folder, colour):
    """What the one-step view of a photo is, made without the page."""
    file = folder / f"{colour}.png"
    file.write_bytes(photo(colour))
    framed = frame(matte(read_image(file)), pipe.image_size)
    view = pipe(framed.image, *POSE, num_inference_steps=1, guidance_scale=1,
                generator=torch.Generator().manual_seed(0)).images[0][0][0]  # fmt: skip
    return np.asarray(view, dtype=float)


@pytest.mark.slow
def test_eight_people_for_a_minute_do_not_mix_and_memory_is_flat(server, person, pipe, tmp_path):
    wanted = {colour: expected(pipe, tmp_path, colour) for colour in COLOURS}
    end = time.monotonic() + SECONDS
    seen = dict.fromkeys(COLOURS, 0)

    def visit(colour):
        who = type(person)(server.url)
        with closing(who.http):
            look_around(who, colour)

    def look_around(who, colour):
        assert who.give("photo.png", photo(colour)).fine
        while time.monotonic() < end:
            answer = who.ask("view", *POSE, 1, 0, 1, 1, None)
            if not answer.fine:
                assert "full" in answer.said
                time.sleep(0.5)
                continue
            off = {
                other: np.abs(levels(who.picture(answer.said[0])) - wanted[other]).mean()
                for other in COLOURS
            }
            assert min(off, key=off.get) == colour
            assert off[colour] < 1
            seen[colour] += 1

    process = psutil.Process(server.process.pid)
    sizes = []

    def watch():
        while time.monotonic() < end:
            sizes.append(process.memory_info().rss / 2**30)
            time.sleep(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(len(COLOURS)) as people:
        list(people.map(visit, COLOURS))
    watcher.join()
    print(f"{sum(seen.values())} views, {min(sizes):.2f} to {max(sizes):.2f} GiB")  # noqa: T201
    assert min(seen.values()) >= 1
    assert max(sizes) < 3
    third = len(sizes) // 3
    assert np.mean(sizes[-third:]) < 1.1 * np.mean(sizes[third:-third])


@pytest.mark.slow
def test_whoever_comes_to_a_full_queue_is_told_at_once(server, person):
    waits = []

    def ask(who):
        begun = time.monotonic()
        answer = who.ask("view", *POSE, 1, 0, 4, 1, None)
        if not answer.fine:
            waits.append(time.monotonic() - begun)
            assert answer.said.startswith("Queue is full")
        return answer.fine

    with ExitStack() as leaving:
        crowd = [type(person)(server.url) for _ in range(24)]  # so many are remembered
        for who in crowd:
            leaving.enter_context(closing(who.http))
            assert who.give("photo.png", photo("red")).fine
        with ThreadPoolExecutor(len(crowd)) as people:
            served = list(people.map(ask, crowd))
    assert sum(served) >= 16
    assert waits
    assert np.quantile(waits, 0.95) < 0.5
