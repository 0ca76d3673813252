"""The command `keras-cnn-classics`: one file for each of its commands.

Exit codes: 0 for success, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, Any

import typer

from keras_cnn_classics._version import __version__
from keras_cnn_classics.cli import (
    data,
    demo,
    evaluate,
    launch,
    list_,
    predict,
    show,
    train,
    transfer,
    weights,
)
from keras_cnn_classics.cli._common import PROGRAM, one_line

INTERRUPTED = 130
DEBUG = (
    "With --debug anywhere on the line, an error shows its traceback, and the backend its messages."
)

app = typer.Typer(
    epilog=DEBUG,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(context: typer.Context, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Classic convolutional networks for Keras: look at them, train them, use them."""


app.command("list", epilog=DEBUG)(list_.list_models)
app.command("show", epilog=DEBUG)(show.show)
app.command("train", epilog=DEBUG)(train.train)
app.command(
    "launch",
    epilog=DEBUG,
    context_settings={"allow_interspersed_args": False},  # options of the command are its own
)(launch.launch)
app.command("evaluate", epilog=DEBUG)(evaluate.evaluate)
app.command("transfer", epilog=DEBUG)(transfer.transfer)
app.command("predict", epilog=DEBUG)(predict.predict)
app.command("demo", epilog=DEBUG)(demo.demo)

_weights = typer.Typer(
    help="Published weights: list, download, verify and convert them.",
    epilog=DEBUG,
    rich_markup_mode=None,
)
_weights.command("list", epilog=DEBUG)(weights.list_sets)
_weights.command("download", epilog=DEBUG)(weights.download)
_weights.command("verify", epilog=DEBUG)(weights.verify)
_weights.command("convert", epilog=DEBUG)(weights.convert)
app.add_typer(_weights, name="weights")

_data = typer.Typer(
    help="Data sets: see what training is given.", epilog=DEBUG, rich_markup_mode=None
)
_data.callback()(lambda: None)  # with one command only, Typer would leave its name out
_data.command("preview", epilog=DEBUG)(data.preview)
app.add_typer(_data, name="data")

# Wrong usage of any kind; its own module is private in Typer.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Runs the command line; every error is one line, unless `--debug` is given."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        code = app(arguments or ["--help"], prog_name=PROGRAM, standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else PROGRAM
        code = _say(f"Error: {one_line(error.format_message())} See {command} --help.", 2)
    except Exception as error:
        if debug:
            raise
        message = one_line(error) or type(error).__name__
        if "OOM when allocating" in message:
            message = "There is not enough memory: take a smaller network, size or batch."
        code = _say(f"Error: {message}", 1)
    if code == INTERRUPTED:  # which Typer itself may have made of Ctrl-C, without a word
        _say("Interrupted.", code)
    sys.exit(code)


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
