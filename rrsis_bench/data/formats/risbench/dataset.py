"""RISBench: 52,472 expressions on pictures of 512 x 512 px, 26 categories (Dong et al., the CroBIM paper, 2024).

On disk: see `LAYOUT` and `phrase_files.py`. Facts of the format that a reader has to know:

- A line's name has its extension, unlike RefSegRS's, and is ``{split}_{image}_{object}.png``. Picture and mask share
  it, so a picture is stored once per object: samples of one picture are found by the first two parts.
- A mask is one channel, foreground above 50.
- No category is stored: they are read from the expressions, whose words for the 26 names vary (`categories.py`).
- Sentences are long (14 words on average), with double spaces and misspellings in them.
- The papers print 16,158 test samples; the files have 16,159, with which the splits sum to the printed 52,472.
"""

from __future__ import annotations

from pathlib import Path

from rrsis_bench.data.formats.file_list import RISBENCH, picture_of
from rrsis_bench.data.formats.file_list_dataset import PhraseDataset

LAYOUT = RISBENCH.tree


def open_split(root: Path, split: str) -> RISBench:
    """Open one split; see `RISBench`."""
    return RISBench(root, split)


class RISBench(PhraseDataset):
    """One split of RISBench, or of whatever is written in its layout; errors as `PhraseDataset`."""

    name = "risbench"
    layout = RISBENCH

    def _find_image_ids(self, names: list[str]) -> list[str]:
        """``{split}_{image}``, equal for the objects of one picture."""
        return [picture_of(self.layout.stem(name)) for name in names]
