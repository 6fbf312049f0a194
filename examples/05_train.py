"""Go on training the bundled model, for a few steps: what a run leaves, and how it is used.

python examples/05_train.py
"""

import shutil
from pathlib import Path

from zero123 import Zero123Pipeline
from zero123.app import cli
from zero123.images import frame, matte, read_image, save_picture

PHOTO = Path(__file__).with_name("coffee.png")
OUT = Path("out/05_train")


def main() -> None:
    """Train, and use what came out."""
    # on the command line: zero123 train debug --data procedural:2 ...; on yours: --data views
    shutil.rmtree(OUT, ignore_errors=True)  # a run is never overwritten, but may be resumed
    options = {"--data": "procedural:2", "--out": OUT / "run", "--steps": 10, "--watched": 2}
    cli.main(["train", "debug", *(str(word) for option in options.items() for word in option)])

    pipe = Zero123Pipeline.from_pretrained(OUT / "run" / "model")
    photo = frame(matte(read_image(PHOTO)), size=pipe.image_size)
    save_picture(pipe(photo.image, azimuth=60).images[0][0][0], OUT / "view.png")
    print(OUT / "run" / "log.jsonl")  # figures; tensorboard shows the same
    print(OUT / "run" / "losses.png")
    print(OUT / "run" / "watched-000010.png")  # views never trained on, beside the truth
    print(OUT / "view.png")


if __name__ == "__main__":  # the processes that render read this file too
    main()
