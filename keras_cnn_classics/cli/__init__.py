"""The command `keras-cnn-classics`: one file for each of its commands.

Exit codes: 0 for success, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys

import typer

from keras_cnn_classics.cli import demo, evaluate, list_, predict, show, train
from keras_cnn_classics.cli._common import fail

app = typer.Typer(
    help="Classic convolutional networks for Keras: look at them, train them, use them.",
    epilog="With --debug anywhere on the line, an error shows its traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(list_.list_models)
app.command("show")(show.show)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("demo")(demo.demo)


def main() -> None:
    """Runs the command line; every error is one line, unless `--debug` is given."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        app(arguments, prog_name="keras-cnn-classics")
    except Exception as error:
        if debug:
            raise
        fail(error)
