"""RefSegRS: 4,420 expressions on crops of 512 x 512 px at 0.13 m, 14 categories (Yuan et al., TGRS 2024).

On disk: see `DIRECTORY_TREE` and `file_list.py`. Facts of the format that a reader has to know:

- A line's name has no extension: ``1361 paved road``. It names the image and the mask. Lines share a name only if they
  share both.
- A mask is one channel, foreground above 50. It often shows several objects ("vehicles along the road").
- No category is stored. Categories are read from the expressions, with FIANet's fourteen names.
- The crops come from 285 scenes that the files do not name. Crops of one scene are not independent samples, so the
  intervals of any result are too narrow.
- Another division, with 2,264 training samples and files named ``annotations_*``, circulates. It is not this one.
"""

from __future__ import annotations

from pathlib import Path

from rrsis_bench.data.formats import file_list
from rrsis_bench.data.formats.index import DatasetIndex
from rrsis_bench.data.text import categories

DIRECTORY_TREE = """\
<root>/
├── images/
│   └── 1361.tif ...
├── masks/
│   └── 1361.tif ...               the names of images/
├── output_phrase_train.txt        lines such as: 1361 paved road
├── output_phrase_val.txt
└── output_phrase_test.txt
"""

FORMAT = file_list.FileListFormat(
    fmt="refsegrs",
    title="RefSegRS",
    images="images",
    masks="masks",
    suffix=".tif",
    source="Hugging Face dataset 'JessicaYuan/RefSegRS', the file RefSegRS.zip (2.77 GB)",
    tree=DIRECTORY_TREE,
    categories=categories.REFSEGRS,
)


def read_index(root: Path) -> DatasetIndex:
    """Read the list files; samples of equal image files share an image_id. Errors as `file_list.read_index`."""
    return file_list.read_index(FORMAT, root)
