"""Take the picture of the page: ``python docs/pictures/page.py``; needs Chromium and ``[dev]``."""

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
PHOTO = HERE.parents[1] / "examples" / "sofa.png"
PORT = "7861"
PATIENCE = 300_000  # ms

server = subprocess.Popen(
    [sys.executable, "-m", "zero123", "app", "--port", PORT], stdout=subprocess.PIPE, text=True
)
try:
    while f":{PORT}" not in (line := server.stdout.readline()):
        if not line:
            sys.exit("the page did not start")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--enable-unsafe-swiftshader"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 820})
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{PORT}")
        page.wait_for_selector("#sphere canvas")
        page.set_input_files("#drop input[type=file]", PHOTO)
        page.wait_for_selector("#framed img")
        for number, (turn, climb) in enumerate([(-40, 0), (0, 40), (40, 0)], start=1):
            for field, value in enumerate((turn, climb)):
                page.locator("#pose input").nth(field).fill(str(value))
            page.locator("#look").click()
            page.wait_for_function(
                "count => document.querySelectorAll('#shots .thumbnail-item').length >= count",
                arg=number,
            )
        page.screenshot(path=HERE / "page.png")
        browser.close()
finally:
    server.terminate()
