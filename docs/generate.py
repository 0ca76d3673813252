"""Writes what documents say of tables in the code, and notebooks.

From the registry and docs/facts.py docs/models.md and docs/families/, from the registry
docs/weights.md, a part of docs/fidelity.md, README.md's table and the index of the command line,
from the recipes docs/recipes.md, from the docstrings of the layers docs/layers.md, and docs/api/ by
docs/api_pages.py. The notebooks of tutorials/, by docs/notebooks.py, are those of their sources.

With `--check` it writes nothing and names the files that are out of date.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import api_pages
from facts import KERAS, PROOFS
from notebooks import notebooks

import keras_cnn_classics as kcc
from keras_cnn_classics.registry import Builder, ModelSpec, WeightsSource

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- models:begin -->", "<!-- models:end -->"

INTRODUCTION = """\
<!-- Written by docs/generate.py from the registry: change that, then `make docs`. -->

# Models

Each family has a page of its own: its paper and idea, all facts about its networks, what proves
that they are right, and how they differ from the paper and from Keras. The tables are written from
the registry, whose numbers the tests assert.

Parameters are the trainable ones of the model as built without arguments. MACs are the
multiply-adds of its convolutions and dense layers, for one image of the input size, or one clip,
whose frames come first, in millions. Errors are those that the paper reports, top-1 and top-5, on
the validation set of ImageNet where nothing else is said, and not of the weights offered here.
Preprocessing is the mode of `preprocess_input` that the training used. Weights are the tags that
`weights=` downloads, of which [Weights](weights.md) has the facts. Untrained networks start from
Keras's initial values, not the paper's, but for LeNet-5.

On the pages of the families there are also: features, the channels of the last feature map; the
stride, the number of pixels of the image for each of its cells; the smallest image, in pixels a
side, that the network takes without its classifier; and options for PyTorch's checkpoints.
Checkpoints that were trained in PyTorch give their answers under these; without them they load with
a warning, or not at all. Those of timm whose names begin with `tf_` came from TensorFlow and want
none.
"""

FAMILY = """\
<!-- Written by docs/generate.py from the registry and docs/facts.py: change these. -->
"""

PROOF = """\
The outputs for two images, with random weights, are those of what is named here, to 1e-4 of their
scale; [Fidelity](../fidelity.md) says how that is compared. Tests are those in `tests/parity/`.
"""

WEIGHTS = """\
<!-- Written by docs/generate.py from the registry: change that, then `make docs`. -->

# Weights

Every published set of weights that `weights=` downloads, by its tag. The plain tag, `imagenet` or
`cifar10`, is that of the set in bold: the authors' own weights where they are published, else the
ones whose recipe is nearest to the paper's. A few sets were made for a network that differs a
little from ours; its options then come with the weights, and other values of them are refused.
Accuracies are those that the publishers state, for one centre crop of ImageNet's validation set or
the test set of CIFAR-10, in percent; they were not measured here. Preprocessing is the mode of
`preprocess_input`, which `model_preprocessing(model)` knows; EfficientNet prepares images itself.
Weights under a licence without commercial use are never in bold, and the log says so when they are
loaded. No set of these has a class for the background.

Files have the hash that their publisher states, which is compared; of PyTorch's files that is the
beginning of it, the Hugging Face hub tells it with the file, and for Keras's MobileNets there is
none: of these it is only seen that they are whole. Those that end in `.pth` or `.th` need PyTorch
to be converted, once; the others do not.
"""


RECIPES = """\
<!-- Written by docs/generate.py from the recipes: change these, then `make docs`. -->

# Recipes

How the papers trained their networks, as `training.recipe(name)` gives it, for the networks named
and by the recipe's own name. A number stands where the paper has it, in the section named; one
without a section is not in the paper, and ours. The results are those that the papers print.

```
keras-cnn-classics train ResNet20 --data cifar10 --recipe paper
keras-cnn-classics train ResNet20 --data cifar10 --recipe paper --scale 0.1 --batch-size 32 \\
    --output runs/short
```

`--scale` is a factor on the epochs and all that is counted in them, and with another batch the
learning rate changes by the linear rule. [Training](training.md) has the same in Python.
"""

LAYERS = """\
<!-- Written by docs/generate.py from the layers' docstrings: change these, then `make docs`. -->

# Layers

What the papers of convolutional networks brought, and who has it: `ours` is
`keras_cnn_classics.layers`, and `keras` is `keras.layers`, for what Keras has already. The order is
that of the papers. Ours take every dtype policy and both data formats, run on TensorFlow, JAX and
PyTorch, and are saved and loaded as Keras's own; `help(layer)` says what a paper leaves open. The
non-local block and CBAM, which are made of these, are [functions](api/blocks.md).
"""

# What Keras has: how it is written, what it does, the paper.
KERAS_LAYERS = (
    (
        "Conv2D(8, 3)",
        "Convolution with shared weights",
        "[LeCun et al., 1989](https://doi.org/10.1162/neco.1989.1.4.541)",
    ),
    (
        "AveragePooling2D(2)",
        "Average of each window; with trainable coefficients it is `TrainableSubsampling`",
        "[LeCun et al., 1998](https://doi.org/10.1109/5.726791), section II.B",
    ),
    (
        "MaxPooling2D(2)",
        "Maximum of each window",
        "[Scherer et al., 2010](https://doi.org/10.1007/978-3-642-15825-4_10)",
    ),
    (
        "ReLU()",
        "What is positive, and 0 for the rest",
        "[Nair & Hinton, 2010](https://icml.cc/Conferences/2010/papers/432.pdf)",
    ),
    (
        "Conv2DTranspose(8, 3, 2)",
        "A convolution's transpose, from small maps to large ones",
        "[Zeiler et al., 2010](https://doi.org/10.1109/CVPR.2010.5539957)",
    ),
    (
        "Conv2D(8, 3, groups=2)",
        "Grouped convolution; `GroupedConv2D` is the same, and fast on a CPU",
        "[Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.5",
    ),
    (
        "Dropout(0.5)",
        "Drops units in training",
        "[Hinton et al., 2012](https://arxiv.org/abs/1207.0580)",
    ),
    (
        "LeakyReLU()",
        "A ReLU with a small slope below 0",
        "[Maas et al., 2013](https://ai.stanford.edu/~amaas/papers/relu_hybrid_icml2013_final.pdf)",
    ),
    (
        "GlobalAveragePooling2D()",
        "Average of each map",
        "[Lin et al., 2013](https://arxiv.org/abs/1312.4400), section 3.2",
    ),
    (
        "DepthwiseConv2D(3)",
        "A convolution of each map by itself",
        "[Sifre, 2014](https://arxiv.org/abs/1403.1687)",
    ),
    (
        "GaussianDropout(0.5)",
        "Multiplies by Gaussian noise in training",
        "[Srivastava et al., 2014](https://jmlr.org/papers/v15/srivastava14a.html), section 10",
    ),
    (
        "SpatialDropout2D(0.5)",
        "Drops whole maps in training",
        "[Tompson et al., 2014](https://arxiv.org/abs/1411.4280), section 3.2",
    ),
    (
        "PReLU(shared_axes=[1, 2])",
        "A ReLU with a trained slope below 0",
        "[He et al., 2015](https://arxiv.org/abs/1502.01852), section 2.1",
    ),
    (
        "BatchNormalization()",
        "Normalizes by the statistics of a batch",
        "[Ioffe & Szegedy, 2015](https://arxiv.org/abs/1502.03167)",
    ),
    (
        "ELU()",
        "Exponential below 0, linear above",
        "[Clevert et al., 2015](https://arxiv.org/abs/1511.07289)",
    ),
    (
        "Conv2D(8, 3, dilation_rate=2)",
        "Dilated convolution",
        "[Yu & Koltun, 2015](https://arxiv.org/abs/1511.07122), section 2",
    ),
    (
        "Activation('gelu')",
        "Gaussian error linear unit",
        "[Hendrycks & Gimpel, 2016](https://arxiv.org/abs/1606.08415)",
    ),
    (
        "LayerNormalization()",
        "Normalizes each example by itself",
        "[Ba et al., 2016](https://arxiv.org/abs/1607.06450)",
    ),
    (
        "GroupNormalization(groups=-1)",
        "Instance normalization: each map by itself",
        "[Ulyanov et al., 2016](https://arxiv.org/abs/1607.08022)",
    ),
    (
        "SeparableConv2D(8, 3)",
        "Depthwise, then 1x1 convolution",
        "[Chollet, 2016](https://arxiv.org/abs/1610.02357)",
    ),
    (
        "Activation('selu')",
        "Keeps mean and variance by itself; `AlphaDropout` goes with it",
        "[Klambauer et al., 2017](https://arxiv.org/abs/1706.02515)",
    ),
    (
        "MultiHeadAttention(2, 8)",
        "Attention of several heads",
        "[Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2",
    ),
    (
        "Activation('silu')",
        "Swish: the input times its sigmoid",
        "[Ramachandran et al., 2017](https://arxiv.org/abs/1710.05941)",
    ),
    (
        "SpectralNormalization(Conv2D(8, 3))",
        "Divides a kernel by its spectral norm",
        "[Miyato et al., 2018](https://arxiv.org/abs/1802.05957)",
    ),
    (
        "GroupNormalization(groups=32)",
        "Normalizes groups of maps",
        "[Wu & He, 2018](https://arxiv.org/abs/1803.08494)",
    ),
)


def families() -> dict[str, list[Builder]]:
    """The builders by family, both oldest first."""
    found: dict[str, list[Builder]] = {}
    for name in kcc.list_models():
        builder = kcc.get_builder(name)
        found.setdefault(builder.spec.family, []).append(builder)
    return found


def models_page() -> str:
    columns = {
        "Year": lambda builders: builders[0].spec.year,
        "Family": lambda builders: f"[{described(builders)[0]}](families/{family(builders)}.md)",
        "Networks": lambda builders: ", ".join(f"`{builder.spec.name}`" for builder in builders),
    }
    of_networks = {
        "Model": lambda spec: f"`{spec.name}`",
        "Family": lambda spec: f"[{spec.family}](families/{spec.family}.md)",
        **FACTS,
    }
    specs = [kcc.get_builder(name).spec for name in kcc.list_models()]
    parts = [
        INTRODUCTION,
        "## Families\n",
        table(columns, families().values()) + "\n",
        "## Networks\n",
        table(of_networks, specs) + "\n",
    ]
    return "\n".join(parts)


def family(builders: Sequence[Builder]) -> str:
    return builders[0].spec.family


def described(builders: Sequence[Builder]) -> tuple[str, str, str]:
    """Title, idea and references of a family, from the docstring of its file."""
    text = inspect.cleandoc(sys.modules[builders[0].__module__].__doc__ or "")
    text, _, references = text.partition("\nReferences:\n")
    title, _, idea = text.partition("\n")
    return title.rstrip("."), idea.strip(), textwrap.dedent(references).strip()


def family_page(builders: Sequence[Builder]) -> str:
    """What the papers brought, the facts, the proofs, and what differs."""
    specs = [builder.spec for builder in builders]
    title, idea, references = described(builders)
    columns = {"Model": lambda spec: f"`{spec.name}`", **FACTS, **DETAILS}
    ours = {spec.name for spec in specs}
    compared = {
        "Models": lambda one: ", ".join(f"`{name}`" for name in one.models if name in ours),
        "Compared with": lambda one: one.peer,
        "Test": lambda one: f"`{one.test}`",
    }
    proofs = [one for one in PROOFS if ours & set(one.models)]
    parts = [
        FAMILY + f"\n# {title}",
        f"{references}",
        idea,
        "## Variants",
        table(columns, specs),
        "## Parity proof",
        PROOF + "\n" + table(compared, proofs),
        "## What differs from Keras",
        keras_differences(specs),
        "## What differs from the paper",
        fidelity(specs),
    ]
    return "\n\n".join(parts) + "\n"


def keras_differences(specs: Sequence[ModelSpec]) -> str:
    import keras

    theirs = [f"`{spec.name}`" for spec in specs if hasattr(keras.applications, spec.name)]
    if not theirs:
        return "`keras.applications` has no network of this family."
    lines = [f"- {line}" for line in KERAS[specs[0].family]]
    return "\n".join(
        [
            f"`keras.applications` has {', '.join(theirs)}. What all networks share is in",
            "[Migrating from Keras](../migrating.md); beside that:",
            "",
            *(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines),
        ]
    )


def fidelity(specs: Iterable[ModelSpec]) -> str:
    """The notes of a family; models that share a note share a line."""
    names: dict[str, list[str]] = {}
    for spec in specs:
        if spec.notes:
            names.setdefault(spec.notes, []).append(f"`{spec.name}`")
    if not names:
        return "Nothing that we know of."
    return "\n".join(f"- {', '.join(models)}: {note}" for note, models in names.items())


def departures() -> str:
    """What is known to differ from the papers, family by family."""
    parts = []
    for name, builders in families().items():
        specs = [builder.spec for builder in builders]
        if any(spec.notes for spec in specs):
            parts.append(f"### [{name}](families/{name}.md)\n\n{fidelity(specs)}")
    return "\n\n".join(parts)


def readme_table() -> str:
    """The short table: the models of each paper."""
    papers: dict[str, list[ModelSpec]] = {}
    for name in kcc.list_models():
        spec = kcc.get_builder(name).spec
        papers.setdefault(spec.url, []).append(spec)
    columns = {
        "Year": lambda specs: specs[0].year,
        "Paper": lambda specs: f"[{specs[0].paper}]({specs[0].url})",
        "Models": lambda specs: ", ".join(f"`{spec.name}`" for spec in specs),
    }
    count = sum(len(specs) for specs in papers.values())
    return f"{count} models.\n\n{table(columns, papers.values())}"


def image(spec: ModelSpec) -> str:
    return " x ".join(map(str, spec.input_shape))


def torch_options(spec: ModelSpec) -> str:
    """The options that checkpoints of PyTorch packages want."""
    wanted = ", ".join(f"`{key}={value!r}`" for key, value in spec.torch_options.items())
    return wanted or "-"


def tags(spec: ModelSpec) -> str:
    """The tags of the weights."""
    return ", ".join(f"`{tag}`" for tag in spec.weights) or "none"


FACTS: dict[str, Callable[[ModelSpec], object]] = {
    "Year": lambda spec: f"[{spec.year}]({spec.url})",
    "Parameters": lambda spec: f"{spec.params:,}",
    "MACs (M)": lambda spec: f"{spec.macs / 1e6:,.1f}",
    "Input": image,
    "Errors (%)": lambda spec: spec.results() or "-",
    "Preprocessing": lambda spec: f"`{spec.preprocessing}`",
    "Weights": tags,
}

DETAILS: dict[str, Callable[[ModelSpec], object]] = {
    "Features": lambda spec: spec.features,
    "Stride": lambda spec: spec.stride,
    "Smallest image": lambda spec: spec.min_size,
    "For PyTorch's checkpoints": torch_options,
}


def weights_page() -> str:
    columns: dict[str, Callable[[tuple[ModelSpec, str, WeightsSource]], object]] = {
        "Model": lambda row: f"`{row[0].name}`",
        "Tag": lambda row: bold_if_plain(row[0], row[1]),
        "Top-1": lambda row: row[2].top1 or "-",
        "Top-5": lambda row: row[2].top5 or "-",
        "Size": lambda row: row[2].input_size or row[0].input_size,
        "Preprocessing": lambda row: f"`{row[2].preprocessing}`",
        "Options": lambda row: options_of(row[2]),
        "File": lambda row: f"`.{row[2].file(include_top=True).name.rpartition('.')[2]}`",
        "Licence": lambda row: row[2].license,
        "From": lambda row: f"[{row[2].origin}]({row[2].file(include_top=True).url})",
    }
    specs = [kcc.get_builder(name).spec for name in kcc.list_models(pretrained=True)]
    rows = [
        (spec, tag, source) for spec in specs for tag, source in spec.weights.items() if "/" in tag
    ]
    return f"{WEIGHTS}\n{table(columns, rows)}\n"


def recipes_page() -> str:
    from keras_cnn_classics import training
    from keras_cnn_classics.training.papers import PAPERS

    trained: dict[str, list[str]] = {name: [] for name in PAPERS}
    for name in kcc.list_models():
        if training.has_paper_recipe(kcc.get_builder(name).spec):
            trained[training.recipe(name).name].append(f"`{name}`")
    columns = {
        "Setting": lambda row: row[0],
        "Value": lambda row: row[1],
        "Section": lambda row: row[2] or "-",
    }
    parts = [RECIPES]
    for name, recipe in PAPERS.items():
        paper, _, url = recipe.source.rpartition(", ")
        parts += [
            f"## {name}\n",
            f"[{paper}]({url})."
            + (f" For {', '.join(trained[name])}.\n" if trained[name] else "\n"),
            table(columns, training.describe(recipe)) + "\n",
        ]
    return "\n".join(parts)


def layers_page() -> str:
    rows = [
        (f"`{code}`", what, paper, "keras", year_of(paper)) for code, what, paper in KERAS_LAYERS
    ]
    for name, layer in our_layers().items():
        text, _, references = inspect.cleandoc(layer.__doc__ or "").partition("\nReferences:\n")
        # An item may go on in the next line, which is indented more.
        papers = [" ".join(one.split()) for one in re.split(r"(?m)^ *- ", references)[1:]]
        summary = " ".join(text.partition("\n\n")[0].split())
        first = papers[0] if papers else ""
        rows.append((f"`{name}`", summary.rstrip("."), "; ".join(papers), "ours", year_of(first)))
    columns = {
        "Paper": lambda row: row[2] or "-",
        "Layer": lambda row: row[0],
        "What it does": lambda row: row[1],
        "Whose": lambda row: row[3],
    }
    rows.sort(key=lambda row: (row[4], row[0].lower()))
    return f"{LAYERS}\n{table(columns, rows)}\n"


def our_layers() -> dict[str, type]:
    """The layers that the package exports, by their names."""
    import keras

    from keras_cnn_classics import layers

    exported = {name: getattr(layers, name) for name in layers.__all__}
    return {k: v for k, v in exported.items() if issubclass(v, keras.layers.Layer)}


def year_of(reference: str) -> str:
    """The year of a reference such as `[He et al., 2015](...)`; what has none comes last."""
    found = re.search(r"\b(19|20)\d\d\b(?=\])", reference)
    return found[0] if found else "none"


def index() -> str:
    """What the command line knows of the networks without Keras."""
    from keras_cnn_classics.cli import _index

    return _index.dump([kcc.get_builder(name).spec for name in kcc.list_models()])


def bold_if_plain(spec: ModelSpec, tag: str) -> str:
    plain = spec.weights.get(tag.partition("/")[0])
    return f"**`{tag}`**" if spec.weights[tag] is plain else f"`{tag}`"


def options_of(source: WeightsSource) -> str:
    """The options that come with the weights; several sets of files for several values say so."""
    named = [f"`{key}={value!r}`" for key, value in source.options.items()]
    if source.variants:
        named.append(f"and {len(source.variants)} more, for other widths or sizes of image")
    return ", ".join(named) or "-"


def table(columns: Mapping[str, Callable[[Any], object]], items: Iterable[Any]) -> str:
    rows = [list(columns), ["---"] * len(columns)]
    rows += [[str(column(item)) for column in columns.values()] for item in items]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def between_markers(page: Path, text: str) -> str:
    """The page with that text in the place of what its markers hold."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} must hold {BEGIN} and, after it, {END}.")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def documents(root: Path) -> dict[Path, str]:
    """Every generated file and what it must hold."""
    docs = root / "docs"
    return {
        docs / "models.md": models_page(),
        **{
            docs / "families" / f"{name}.md": family_page(builders)
            for name, builders in families().items()
        },
        **{
            docs / "api" / f"{name}.md": text
            for name, text in api_pages.pages(families().values()).items()
        },
        docs / "weights.md": weights_page(),
        docs / "recipes.md": recipes_page(),
        docs / "layers.md": layers_page(),
        **notebooks(root / "tutorials"),
        root / "keras_cnn_classics" / "models.json": index(),
        docs / "fidelity.md": between_markers(docs / "fidelity.md", departures()),
        root / "README.md": between_markers(root / "README.md", readme_table()),
    }


def stale(root: Path = ROOT) -> dict[Path, str]:
    """The generated files that are missing or out of date, and what they must hold."""
    return {
        path: text
        for path, text in documents(root).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name stale files")
    check = parser.parse_args(arguments).check
    found = stale(root)
    for path, text in found.items():
        if check:
            print(f"{path.relative_to(root)} is out of date: run `make docs`.")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"{path.relative_to(root)} written.")
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
