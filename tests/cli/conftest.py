"""What the tests of the command line share."""

import sys

import pytest

from keras_cnn_classics import cli


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process; gives exit code, output and error output."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-cnn-classics", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
