"""RIS-LAD: 13,871 references on drone images from 30 to 100 m, by day and night (Ye et al., the SAARN paper, 2025).

Written without a copy. Inferred: the layout is RRSIS-D's, because the authors of RIS-LAD train on it with RMSIN's
loader. The README of the dataset suggests another one (``images/``, ``masks/``, ``ann/*.json``), whose records are not
described. A copy of that kind is refused with a way to convert it. The names of the folders, one sentence per reference
and masks as run lengths are inferred as well, and `data verify` names every difference.
"""

from __future__ import annotations

from pathlib import Path

from rrsis_bench.data.formats.index import DatasetIndex
from rrsis_bench.data.formats.refer import ReferFormat
from rrsis_bench.errors import UserError

DIRECTORY_TREE = """\
<root>/
├── rislad/
│   ├── refs(unc).p          one pickled list of references
│   └── instances.json       images, annotations, categories
└── images/
    └── rislad/
        └── JPEGImages/
            └── *.jpg
"""

FORMAT = ReferFormat(
    "ris_lad", "RIS-LAD", "rislad",
    "the Google Drive link in the README of github.com/AHideoKuzeA/RIS-LAD (one file, 760 MB)",
    DIRECTORY_TREE, inferred=True, total=13_871,
)  # fmt: skip


def read_index(root: Path) -> DatasetIndex:
    """Read both annotation files; see `ReferFormat.read_index`.

    Raises:
        UserError: also for a copy in the layout that the dataset's README suggests.
    """
    if (root / "masks").is_dir() and any((root / "ann").glob("*.json")) and not FORMAT.refs_path(root).is_file():
        raise UserError(
            f"{root} has masks/ and ann/*.json, as the README of RIS-LAD suggests, but no refs(unc).p. The records of "
            "these JSON files are not described, so they are not read. Write one line per sample to train.jsonl, "
            "val.jsonl and test.jsonl with the fields image, expression and mask, and use data=custom (docs/data.md)."
        )
    return FORMAT.read_index(root)
