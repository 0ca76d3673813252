"""Writes the notebooks of `tutorials/` from their sources, Python files in percent format.

    python tutorials/generate.py

Each notebook has the cells of its source, a badge that opens it in Colab, and no outputs. With
`--check` it writes nothing and names the notebooks that are out of date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).parent
# Where the notebooks can be read by everybody. OWNER stands for an account that is not known yet.
REPOSITORY = "OWNER/keras_cnn_classics"
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/tutorials/{name}.ipynb)"
)
METADATA = {
    "accelerator": "GPU",  # what Colab shall offer
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources(folder: Path = FOLDER) -> list[Path]:
    """The sources, in the order in which they are to be read."""
    return sorted(folder.glob("[0-9]_*.py"))


def notebook(source: Path) -> str:
    """The notebook of a source, which is the same text whenever it is made."""
    made = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    made.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({})
    title, _, text = made.cells[0].source.partition("\n")
    badge = BADGE.format(repository=REPOSITORY, name=source.stem)
    made.cells[0].source = f"{title}\n\n{badge}\n{text}"
    nbformat.validate(made)
    return f"{nbformat.writes(made)}\n"


def stale(folder: Path = FOLDER) -> dict[Path, str]:
    """The notebooks that are missing or out of date, and what they must hold."""
    made = {source.with_suffix(".ipynb"): notebook(source) for source in sources(folder)}
    return {
        path: text
        for path, text in made.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Writes what is out of date, or names it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, name stale notebooks")
    check = parser.parse_args(arguments).check
    found = stale(folder)
    for path, text in found.items():
        if check:
            print(f"{path.name} is out of date: run `make docs`.")
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"{path.name} written.")
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
