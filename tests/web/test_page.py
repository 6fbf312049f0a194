"""The page in a real browser that reaches nothing but this machine."""

import base64
import re
import shutil
import time
import zipfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 240_000  # ms


@pytest.fixture(scope="module")
def browser(chromium):
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--enable-unsafe-swiftshader",  # 3D without a graphics card
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        yield opened
        opened.close()


@pytest.fixture
def asked() -> list[str]:
    """Every address that the browser has asked for."""
    return []


@pytest.fixture
def page(browser, server, asked, request) -> Iterator[Page]:
    context = browser.new_context(viewport=getattr(request, "param", DESKTOP), has_touch=True)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    opened.on("request", lambda sent: asked.append(sent.url))
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.goto(server.url)
    opened.wait_for_selector("#sphere canvas")
    yield opened
    context.close()
    assert not faults


def give(page, coffee):
    page.set_input_files("#drop input[type=file]", coffee)
    page.wait_for_selector("#framed img")
    # the sphere shows it too, with the camera at its place
    page.wait_for_function("document.querySelector('#pose input').value === '0'")


def pose(page):
    return [float(field.input_value()) for field in page.locator("#pose input").all()]


def drag(page, right, up):
    box = page.locator("#sphere canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right / 2, y - up / 2)
    page.mouse.move(x + right, y - up)


def shown(page, place):
    """The address of the picture that is at a place, once there is one."""
    return page.wait_for_selector(f"{place} img").get_attribute("src")


def test_the_whole_page_with_the_network_cut(page, server, asked, coffee, tmp_path):
    give(page, coffee)

    drag(page, 100, 40)
    rough = shown(page, "#seen")
    page.mouse.up()
    page.wait_for_selector("#shots img")
    assert shown(page, "#seen") != rough
    turn, climb, away = pose(page)
    assert (turn > 20, climb > 5, away) == (True, True, 0)
    said = page.locator("#shots .caption-label").first.inner_text()
    assert said.startswith(f"azimuth {turn:+g}°, elevation {climb:+g}°")

    page.locator("#go").click()
    page.wait_for_function("document.querySelector('#film img')?.src.endsWith('orbit.webp')")

    page.locator("#make").click()
    page.wait_for_selector("#glimpse img")
    page.wait_for_selector("#mesh-status .note")
    page.wait_for_selector("#model canvas")
    page.wait_for_function(
        "performance.getEntriesByType('resource').some((file) => file.name.endsWith('.glb'))"
    )
    with page.expect_download() as download:
        page.locator("#pack").click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert {
            "photo.png", "views/view_000.png", "views/transforms.json", "orbit/orbit.mp4",
            "object.glb", "settings.json",
        } <= set(packed.namelist())  # fmt: skip

    elsewhere = [url for url in asked if not url.startswith((server.url, "data:", "blob:"))]
    assert not elsewhere
    assert len(asked) > 20


@pytest.mark.parametrize("page", [PHONE], indirect=True, ids=["phone"])
def test_the_page_fits_a_phone(page, coffee):
    give(page, coffee)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for name in ("left", "right", "above", "below", "behind"):
        button = page.get_by_role("button", name=name, exact=True).bounding_box()
        assert button["height"] >= 36  # large enough for a thumb
        assert button["x"] + button["width"] <= PHONE["width"]


def test_a_photo_can_be_pasted(page, server, coffee):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    page.evaluate(
        """async (data) => {
            const picture = await (await fetch("data:image/png;base64," + data)).blob();
            await navigator.clipboard.write([new ClipboardItem({"image/png": picture})]);
        }""",
        base64.b64encode(coffee.read_bytes()).decode(),
    )
    page.get_by_role("button", name="Paste from clipboard").click()
    page.wait_for_selector("#framed img")


def test_in_the_dark_no_empty_picture_glares(page, server):
    page.goto(f"{server.url}?__theme=dark")
    page.wait_for_selector("#sphere canvas")
    for place in (".gradio-container", "#drop", "#framed", "#seen", "#film", "#glimpse", "#model"):
        paint = "place => getComputedStyle(document.querySelector(place)).backgroundColor"
        red, green, blue, *alpha = map(float, re.findall(r"[\d.]+", page.evaluate(paint, place)))
        assert alpha == [0] or max(red, green, blue) < 100, place


def test_keys_and_names_move_the_camera(page, coffee):
    give(page, coffee)
    sphere = page.locator("#sphere canvas")
    sphere.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowUp", "-"):
        sphere.press(key)
    page.wait_for_selector("#shots img")
    assert pose(page) == [10, 20, 0.1]
    assert "azimuth 10°, elevation 20°" in sphere.get_attribute("aria-valuetext")
    page.get_by_role("button", name="behind", exact=True).click()
    page.wait_for_function("document.querySelectorAll('#shots .thumbnail-item').length > 1")
    assert abs(pose(page)[0]) == 180


def test_fields_move_the_sphere(page, coffee):
    give(page, coffee)
    page.locator("#pose input").nth(0).fill("-45")
    page.wait_for_function(
        "document.querySelector('#sphere canvas').getAttribute('aria-valuenow') === '-45'"
    )


def test_touching_moves_the_camera(page, coffee):
    give(page, coffee)
    box = page.locator("#sphere canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    touch.send(
        "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]}
    )
    for step in range(1, 5):
        point = {"x": x - 20 * step, "y": y}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_selector("#shots img")
    assert pose(page)[0] < -20


def test_a_bad_photo_is_one_sentence_on_the_page(page, tmp_path):
    (tmp_path / "letter.png").write_text("hello")
    page.set_input_files("#drop input[type=file]", tmp_path / "letter.png")
    said = page.wait_for_selector(".toast-body").inner_text()
    assert "letter.png is text, not a picture" in said
    assert "Traceback" not in page.content()
    assert page.locator("#framed img").count() == 0


def test_cancel_ends_a_view(page, coffee, person):
    give(page, coffee)
    page.get_by_text("Settings").first.click()
    page.get_by_label("Steps").fill("200")
    for _ in range(8):  # a report of the work may be on its way
        page.locator("#look").click()
        page.wait_for_selector("#seen-status progress")
        page.locator("#halt-view").click()
        page.wait_for_selector("#seen-status progress", state="hidden")
    started = time.monotonic()
    person.give("coffee.png", coffee.read_bytes())
    assert person.ask("view", 60, 0, 0, 1, 0, 1, None, None).fine
    assert time.monotonic() - started < 30  # 200 steps take longer


def test_dragging_the_camera_ends_an_object_without_a_word(page, coffee):
    give(page, coffee)
    page.locator("#make").click()
    page.wait_for_selector("#mesh-status progress")
    page.locator("#sphere").scroll_into_view_if_needed()
    drag(page, 60, 0)
    page.mouse.up()
    page.wait_for_selector("#mesh-status progress", state="hidden")
    page.wait_for_selector("#shots img")
    assert page.locator(".toast-body").count() == 0


def test_an_orbit_that_fails_leaves_no_bar(page, coffee, server):
    give(page, coffee)
    page.locator("#go").click()
    page.wait_for_selector("#film-status progress")
    for folder in server.folder.glob("zero123-page-*/visitor-*"):
        shutil.rmtree(folder)
        folder.write_text("nothing can be written here any more")
    assert "visitor-" in page.wait_for_selector(".toast-body").inner_text()
    page.wait_for_selector("#film-status progress", state="hidden")
