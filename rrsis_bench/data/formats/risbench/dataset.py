"""RISBench: 52,472 expressions on images of 512 x 512 px, 26 categories (Dong et al., the CroBIM paper, 2024).

On disk: see `DIRECTORY_TREE` and `file_list.py`. Facts of the format that a reader has to know:

- A line's name has its extension, unlike RefSegRS's, and is ``{split}_{image}_{object}.png``. Image and mask share it,
  so an image is stored once per object. Samples of one image are found by the first two parts.
- A mask is one channel, foreground above 50.
- No category is stored. Categories are read from the expressions, whose words for the 26 names vary (`categories.py`).
- Sentences are long (14 words on average), with double spaces and misspellings.
- The papers print 16,158 test samples. The files have 16,159, with which the splits sum to the printed 52,472.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from rrsis_bench.data.formats import file_list
from rrsis_bench.data.formats.index import SPLITS, WARNING, DatasetIndex
from rrsis_bench.data.text import categories

DIRECTORY_TREE = """\
<root>/
├── img_rgb/
│   └── test_2_6.png ...           {split}_{image}_{object}.png, the image once per object
├── mask/
│   └── test_2_6.png ...           the names of img_rgb/
├── output_phrase_train.txt        lines such as: train_2_6.png The small vehicle in the middle .
├── output_phrase_val.txt
└── output_phrase_test.txt
"""

FORMAT = file_list.FileListFormat(
    fmt="risbench",
    title="RISBench",
    images="img_rgb",
    masks="mask",
    suffix="",
    source="the Baidu link (code wnxg) in the README of the CroBIM repository",
    tree=DIRECTORY_TREE,
    categories=categories.RISBENCH,
)

_NAME = re.compile(r"(.+_\d+)_\d+", re.ASCII)


def read_index(root: Path) -> DatasetIndex:
    """Read the list files; the objects of one image share an image_id. Errors as `file_list.read_index`."""
    index = file_list.read_index(FORMAT, root)
    for split in SPLITS:
        rows = []
        for row in index.rows[split]:
            stem = Path(row.image).stem
            image_id = image_of(stem)
            rows.append(dataclasses.replace(row, image_id=image_id))
            if image_id == stem or not image_id.startswith(f"{split}_"):
                index.add(WARNING, "unusual_name", row.sample_id, f"is not named {split}_<image>_<object>", split)
        index.rows[split] = rows
    return index


def image_of(stem: str) -> str:
    """Return the image's id in a name without extension, ``test_2`` for ``test_2_6``; else the whole name."""
    found = _NAME.fullmatch(stem)
    return stem if found is None else found[1]
