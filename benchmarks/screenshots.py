"""Pictures of TensorBoard for the README, taken in headless Chromium.

    python -m keras_actpen demo --epochs 8 --log-dir logs
    python -m keras_actpen demo --sweep --log-dir sweep
    python benchmarks/screenshots.py logs sweep

writes activations.png, layer.png and hparams.png to benchmarks/results.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "browser"))

import tensorboard_pages  # noqa: E402, the path above has it
from activations_tab import ActivationsTab  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402, beside its user

RUNS = ("actpen/train", "plain/actpen/train")
COEFFICIENT = "dense_4/l1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log_dir", help="log directory of the demo")
    parser.add_argument("sweep_dir", help="log directory of its sweep")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tensorboard_pages.chromium() as browser:
        take_pictures_of_training(browser, options.log_dir, options.output)
        take_picture_of_sweep(browser, options.sweep_dir, options.output)


def take_pictures_of_training(
    browser: Browser, log_dir: str, output: Path
) -> None:
    penalized, plain = RUNS
    both = {"run": penalized, "with": plain}
    with tensorboard_pages.serve(log_dir, RUNS) as url:
        for name, height, state in (
            ("activations.png", 1400, {"page": "overview", **both}),
            ("layer.png", 1520, {"page": "layer", "layer": "dense_4", **both}),
        ):
            tab = ActivationsTab(browser, url, (1400, height))
            tab.open(**state)
            tab.page.screenshot(path=output / name)
            tab.close()


def take_picture_of_sweep(browser: Browser, log_dir: str, output: Path) -> None:
    runs = [
        f"{directory.name}/actpen/hparams"
        for directory in Path(log_dir).iterdir()
        if directory.is_dir()
    ]
    with tensorboard_pages.serve(log_dir, runs) as url:
        pages = tensorboard_pages.TensorBoardPages(browser, url, timeout=60)
        pages.hparams([COEFFICIENT, "hparams/val_accuracy"])
        pages.open_parallel_coordinates()
        pages.choose_scale(COEFFICIENT, "Logarithmic")
        pages.save_screenshot(output / "hparams.png", 1400, 800)


if __name__ == "__main__":
    main()
