"""What the page does, from another program: its own API, by gradio_client.

python examples/09_page_api.py
"""

import shutil
import subprocess
import sys
from pathlib import Path

from gradio_client import Client, handle_file

PHOTO = Path(__file__).with_name("coffee.png")
OUT = Path("out/09_page_api")
OUT.mkdir(parents=True, exist_ok=True)

# in another terminal: zero123 app --port 7899
command = [sys.executable, "-m", "zero123", "app", "--port", "7899"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
    assert page.stdout is not None
    try:
        url = page.stdout.readline().split()[-1]  # it says where it is once it answers
        client = Client(url, verbose=False, analytics_enabled=False)  # a visitor of their own

        # how the object is cut out, its size in the picture, and where: see /?view=api
        client.predict(handle_file(PHOTO), "auto", 0.66, 0, 0, api_name="/photo")
        # azimuth, elevation, distance; samples, seed; steps, guidance and elevation as they are
        view, *_ = client.predict(60, 10, 0, 1, 0, None, None, None, api_name="/view")
        shutil.copy(view, OUT / "view.png")
        everything = client.predict(api_name="/bundle")
        shutil.copy(everything, OUT / "everything.zip")
        print(url)
    finally:
        page.terminate()

print(OUT / "view.png")
print(OUT / "everything.zip")
