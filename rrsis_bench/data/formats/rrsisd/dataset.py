"""RRSIS-D: 17,402 references on aerial images, 20 categories (Liu et al., CVPR 2024).

On disk: see `DIRECTORY_TREE`. The facts of the layout are in `rrsis_bench.data.formats.refer`. In RRSIS-D each
reference has one sentence, and an image is stored once per reference.
"""

from __future__ import annotations

from pathlib import Path

from rrsis_bench.data.formats.index import DatasetIndex
from rrsis_bench.data.formats.refer import ReferFormat
from rrsis_bench.data.text.categories import RRSISD

CATEGORIES = tuple(RRSISD)
"""RRSIS-D's twenty category names, in the order of their ids."""

DIRECTORY_TREE = """\
<root>/
├── rrsisd/
│   ├── refs(unc).p          one pickled list of references
│   └── instances.json       images, annotations, categories
└── images/
    └── rrsisd/
        └── JPEGImages/
            └── 00000.jpg ...   one per reference
"""

FORMAT = ReferFormat(
    "rrsisd", "RRSIS-D", "rrsisd",
    "Hugging Face dataset 'VoyageWang/rrsis-d' (JPEGImages.zip, instances.json, refs(unc).p), or the links in the "
    "README of github.com/Lsan2401/RMSIN",
    DIRECTORY_TREE,
)  # fmt: skip

refs_path, instances_path, images_dir = FORMAT.refs_path, FORMAT.instances_path, FORMAT.images_dir


def read_index(root: Path) -> DatasetIndex:
    """Read both annotation files; see `ReferFormat.read_index`."""
    return FORMAT.read_index(root)
