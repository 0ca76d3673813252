"""The notebooks of `tutorials/`, from their sources, Python files in percent format.

Each notebook has the cells of its source, a badge that opens it in Colab, and no outputs.
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

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


def notebooks(folder: Path) -> dict[Path, str]:
    """The notebook of each source in a folder."""
    sources = sorted(folder.glob("[0-9]_*.py"))
    return {source.with_suffix(".ipynb"): notebook(source) for source in sources}


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
