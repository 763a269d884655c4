"""RRSIS-HR: 2,650 references on images of 1024 px, 7 categories (Liu et al., the CADFormer paper, JSTARS 2025).

Written without a copy. Known from the authors' code and README: the layout is RRSIS-D's with other folder names, and
the images and sentences come from RSVG-HR. Inferred: one sentence per reference, masks as run lengths, all masks 1024
px. A copy that differs is read as far as it can be, and `data verify` names every difference.
"""

from __future__ import annotations

from pathlib import Path

from rrsis_bench.data.formats.index import DatasetIndex
from rrsis_bench.data.formats.refer import ReferFormat

DIRECTORY_TREE = """\
<root>/
├── rrsishr/
│   ├── refs(unc).p          one pickled list of references
│   └── instances.json       images, annotations, categories
└── images/
    └── rrsishr/
        └── JPEGImages/
            └── *.jpg
"""

FORMAT = ReferFormat(
    "rrsis_hr", "RRSIS-HR", "rrsishr",
    "the Baidu (code wust) or OneDrive link in the README of github.com/zxk688/CADFormer",
    DIRECTORY_TREE, inferred=True, categories=7, side=1024,
)  # fmt: skip


def read_index(root: Path) -> DatasetIndex:
    """Read both annotation files; see `ReferFormat.read_index`."""
    return FORMAT.read_index(root)
