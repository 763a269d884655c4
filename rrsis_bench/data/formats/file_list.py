"""Datasets of loose files: pictures, masks, and one text file per split that names a file and says what it shows.

RefSegRS and RISBench are stored so::

    <root>/<pictures>/<name>    <root>/<masks>/<name>    <root>/output_phrase_{train,val,test}.txt

A line is a name, one space, and the expression. What is made of it, for both datasets:

- The file is UTF-8, with or without a byte order mark; lines end in any of the three ways. Blank lines are no samples.
- The name ends at the first space. Spaces around the expression are cut off, and several in a row count as one (they
  occur, and mean nothing to a tokenizer); nothing else is changed, misspellings included.
- A name that occurs in several lines of a split gives several samples of one picture and mask. The first keeps the
  name as its id, the k-th is ``<name>-<k>``.
- Categories are read from the expressions, by `categories.py`; how many objects one denotes is not known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.directory_tree import require_present
from rrsis_bench.data.text import categories
from rrsis_bench.errors import UserError

_NAME = re.compile(r"(.+_\d+)_\d+", re.ASCII)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, eq=False)
class PhraseLayout:
    """What tells one such dataset from another.

    Attributes:
        fmt: the format's name.
        title: the dataset's name for a person.
        images: folder of the pictures, below the root.
        masks: folder of the masks.
        suffix: what the lines leave out of the files' names, such as ``".tif"``.
        source: where to get the dataset, for a person.
        tree: the files as a tree.
        categories: names and aliases, see `categories.py`.
    """

    fmt: str
    title: str
    images: str
    masks: str
    suffix: str
    source: str
    tree: str
    categories: Mapping[str, tuple[str, ...]]

    def image(self, root: Path, name: str) -> Path:
        """The picture that a line names."""
        return root / self.images / (name + self.suffix)

    def mask(self, root: Path, name: str) -> Path:
        """The mask that a line names."""
        return root / self.masks / (name + self.suffix)

    def stem(self, name: str) -> str:
        """The name of a line without the files' extension."""
        return name if self.suffix else PurePath(name).stem


_REFSEGRS_TREE = """\
<root>/
├── images/
│   └── 1361.tif ...
├── masks/
│   └── 1361.tif ...               the names of images/
├── output_phrase_train.txt        lines such as: 1361 paved road
├── output_phrase_val.txt
└── output_phrase_test.txt
"""

REFSEGRS = PhraseLayout(
    fmt="refsegrs",
    title="RefSegRS",
    images="images",
    masks="masks",
    suffix=".tif",
    source="Hugging Face dataset 'JessicaYuan/RefSegRS', the file RefSegRS.zip (2.77 GB)",
    tree=_REFSEGRS_TREE,
    categories=categories.REFSEGRS,
)

_RISBENCH_TREE = """\
<root>/
├── img_rgb/
│   └── test_2_6.png ...           {split}_{image}_{object}.png, the picture once per object
├── mask/
│   └── test_2_6.png ...           the names of img_rgb/
├── output_phrase_train.txt        lines such as: train_2_6.png The small vehicle in the middle .
├── output_phrase_val.txt
└── output_phrase_test.txt
"""

RISBENCH = PhraseLayout(
    fmt="risbench",
    title="RISBench",
    images="img_rgb",
    masks="mask",
    suffix="",
    source="the Baidu link (code wnxg) in the README of the CroBIM repository",
    tree=_RISBENCH_TREE,
    categories=categories.RISBENCH,
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank.

    Attributes:
        number: from 1.
        name: up to the first space.
        expression: what follows; empty where nothing does.
        undecodable: whether it holds bytes that are not UTF-8 (shown as replacement characters).
    """

    number: int
    name: str
    expression: str
    undecodable: bool


def phrases_path(root: Path, split: str) -> Path:
    """The text file of a split."""
    return root / f"output_phrase_{split}.txt"


def require_layout(layout: PhraseLayout, root: Path, splits: tuple[str, ...] = SPLITS) -> None:
    """UserError where files are missing; see `require_present`."""
    wanted = [root / layout.images, root / layout.masks, *(phrases_path(root, split) for split in splits)]
    require_present(layout.title, root, wanted, layout.source, layout.tree)


def read_lines(path: Path) -> tuple[list[Line], list[int]]:
    """Read a text file without judgement.

    Returns:
        Its lines, and the numbers of the blank ones before the last line with words in it.

    Raises:
        UserError: the file cannot be read at all.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    # Line ends as in Python's text mode, which the datasets' own loaders use; `splitlines` knows more of them.
    raw = data.removeprefix(_BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines, blank = [], []
    for number, content in enumerate(raw, start=1):
        try:
            text, undecodable = content.decode("utf-8"), False
        except UnicodeDecodeError:
            text, undecodable = content.decode("utf-8", errors="replace"), True
        name, _, expression = text.strip().replace("\t", " ").partition(" ")
        if name:
            lines.append(Line(number, name, re.sub(" {2,}", " ", expression).strip(), undecodable))
        else:
            blank.append(number)
    last = lines[-1].number if lines else 0
    return lines, [number for number in blank if number < last]


def sample_ids(layout: PhraseLayout, lines: list[Line]) -> list[str]:
    """An id for each line of a split: its name without extension, the k-th of one name with ``-<k>`` behind it."""
    seen: Counter[str] = Counter()
    ids = []
    for line in lines:
        stem = layout.stem(line.name)
        seen[stem] += 1
        ids.append(stem if seen[stem] == 1 else f"{stem}-{seen[stem]}")
    return ids


def picture_of(stem: str) -> str:
    """The picture's id in a name without extension, ``test_2`` for ``test_2_6``; another name is a picture's own."""
    found = _NAME.fullmatch(stem)
    return stem if found is None else found[1]
