"""Figures on a model: how near its views are to the truth, and to what guessing gives.

python examples/06_evaluate.py
"""

import shutil
from pathlib import Path

from zero123.app import cli
from zero123.data import RenderJob, find_items, run_job

OUT = Path("out/06_evaluate")


def main() -> None:
    """Truth, and figures."""
    # two made-up objects that no training has seen; first views are photos, others are asked for
    objects = find_items(["procedural:900000000-900000001"])
    run_job(objects, RenderJob(views=4, size=128, renderer="fast"), OUT / "views")

    # on the command line: zero123 evaluate --data views --model mini --out report
    views, report = OUT / "views", OUT / "report"
    shutil.rmtree(report, ignore_errors=True)
    cli.main(["evaluate", "--data", str(views), "--model", "mini", "--out", str(report)])
    print(report / "report.md")
    print(report / "report.html")  # with pictures of the best, the median and the worst


if __name__ == "__main__":  # the processes that render read this file too
    main()
