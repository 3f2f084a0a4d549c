"""Pictures of TensorBoard for the README, taken in headless Chromium.

    python -m keras_actpen demo --epochs 8 --log-dir logs
    python benchmarks/screenshots.py logs

writes scalars.png and histograms.png to benchmarks/results.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "browser"))

import tensorboard_pages  # noqa: E402, the path above has it

RUNS = ("actpen", "actpen/train", "actpen/validation")
SCALARS = (
    "actpen/penalty_share",
    "actpen/penalty_total",
    "actpen/task_loss",
    "activation.dead_fraction/dense_4",
    "activation.zero_fraction/dense_4",
    "metric/accuracy",
)
HISTOGRAMS = ("activation.values/dense_4",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log_dir", help="log directory of the demo")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with (
        tensorboard_pages.serve(options.log_dir, RUNS) as url,
        tensorboard_pages.chromium() as browser,
    ):
        pages = tensorboard_pages.TensorBoardPages(browser, url, timeout=60)
        pages.scalars(SCALARS, "actpen|fraction|accuracy")
        pages.show_outliers()
        pages.save_screenshot(options.output / "scalars.png", 1400, 1075)
        pages.histograms(HISTOGRAMS, "")
        pages.enlarge("tf-histogram-loader")
        pages.save_screenshot(options.output / "histograms.png", 1400, 690)


if __name__ == "__main__":
    main()
