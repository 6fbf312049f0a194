"""The page's endpoints, as its own client uses them."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from PIL import Image

ENDPOINTS = {
    "/photo", "/place", "/preview", "/view", "/orbit", "/mesh", "/object", "/bundle", "/stop",
    "/forget",
}  # fmt: skip
VIEW = {"azimuth": 60, "elevation": 10, "distance": 0}


@pytest.fixture
def client(server, tmp_path):
    return Client(server.url, download_files=tmp_path, verbose=False, analytics_enabled=False)


def test_the_endpoints_are_named_and_documented(server, person):
    told = person.http.get("gradio_api/info").json()
    assert set(told["named_endpoints"]) == ENDPOINTS
    assert not told["unnamed_endpoints"]
    for name, endpoint in told["named_endpoints"].items():
        assert endpoint["description"], name


def test_a_client_gets_views_a_film_an_object_and_everything(client, coffee, tmp_path):
    framed, notes = client.predict(handle_file(coffee), api_name="/photo")
    with Image.open(framed) as opened:
        assert opened.size == (512, 512)
    assert notes == ""
    framed, _ = client.predict("plain", 0.5, 0.1, 0.0, api_name="/place")
    rough = client.predict(**VIEW, api_name="/preview")
    seen, shots, status = client.predict(**VIEW, samples=2, seed=7, api_name="/view")
    with Image.open(rough) as first, Image.open(seen) as second:
        assert first.size == second.size == (128, 128)
    assert [shot["caption"] for shot in shots] == [
        f"azimuth +60°, elevation +10°, seed 7, sample {number}" for number in (0, 1)
    ]
    assert status == ""
    film, _ = client.predict(frames=4, elevation=0, api_name="/orbit")
    with Image.open(film) as opened:
        assert opened.n_frames == 4
    _, said = client.predict(seed=0, api_name="/mesh")
    made = client.predict(api_name="/object")
    assert Path(made).read_bytes()[:4] == b"glTF"
    assert "taken from 20°" in said
    with zipfile.ZipFile(client.predict(api_name="/bundle")) as packed:
        names = packed.namelist()
        told = json.loads(packed.read("settings.json"))
    assert {"photo.png", "object.glb", "orbit/orbit.mp4", "views/transforms.json"} <= set(names)
    assert told["placement"] == {"cut": "plain", "fill": 0.5, "right": 0.1, "down": 0.0}


def test_what_is_wrong_with_a_photo_is_said(person, coffee):
    with Image.open(coffee) as whole:
        held = io.BytesIO()
        whole.crop((100, 0, 418, 360)).save(held, "PNG")
    answer = person.give("cut.png", held.getvalue())
    assert answer.fine
    notes = re.findall("<p class='note'>(.*?)</p>", answer.said[1])
    assert any("touches the left edge" in note for note in notes)


def test_two_clients_do_not_see_each_others_photo(server, person, coffee):
    person.give("coffee.png", coffee.read_bytes())
    other = type(person)(server.url)
    answer = other.ask("preview", 0, 0, 0)
    assert not answer.fine
    assert "no photo yet" in answer.said


def test_cancelled_work_frees_the_model(client, coffee, person):
    client.predict(handle_file(coffee), api_name="/photo")
    job = client.submit(**VIEW, steps=200, api_name="/view")
    next(iter(job))
    client.predict(api_name="/stop")
    person.give("coffee.png", coffee.read_bytes())
    assert person.ask("view", 60, 0, 0, 1, 0, 1, None, None).fine  # long before 200 steps are over
    job.cancel()
