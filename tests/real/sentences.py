"""The language of RRSIS-D's real references: ``python -m tests.real.sentences FOLDER`` prints tables in Markdown.

FOLDER has ``rrsisd_references.tsv``, with the columns ``file_name``, ``split``, ``category_id`` and ``sentence``. No
image is needed. A folder in RRSIS-D's own layout is counted by ``rrsis-bench data stats rrsisd --language``.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.text.categories import RRSISD
from rrsis_bench.data.text.language import names_place
from rrsis_bench.data.text.pipeline import lost_text
from rrsis_bench.data.text.tokenizers import build_from_expressions
from rrsis_bench.describe import language

VARIABLE = "RRSIS_BENCH_REFERENCES"
NAME = "rrsisd_references.tsv"
LIMITS = (20, 30)
VOCABULARY = 4000
DIOR_TRAINVAL = 11725  # the largest number in DIOR's trainval half; not verified


def references(folder: Path) -> list[dict[str, str]]:
    """Return the lines of the file; FileNotFoundError if it is absent."""
    with (folder / NAME).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def by_split(rows: Sequence[dict[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Return split -> (sentence, category); categories are numbered from 0 in the order of `RRSISD`."""
    names = list(RRSISD)
    return {
        split: [(row["sentence"], names[int(row["category_id"])]) for row in rows if row["split"] == split]
        for split in SPLITS
    }


def truncation(splits: dict[str, list[tuple[str, str]]]) -> list[tuple[str, list[str]]]:
    """Return lines on word-pieces: the share of sentences that a limit cuts, and that lose a place word by it."""
    expressions = (text for text, _ in splits["train"])
    tokenizer = build_from_expressions("wordpiece", expressions, VOCABULARY, "vocab_size")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    out = []
    for limit in LIMITS:
        cut, lost = [], []
        for sentences in splits.values():
            texts = [text for text, _ in sentences]
            encodings = tokenizer.encode_batch(texts)
            n = sum(len(encoding.ids) > limit for encoding in encodings)
            places = sum(
                names_place(lost_text(text, encoding, limit)) for text, encoding in zip(texts, encodings, strict=True)
            )
            cut.append(f"{n:,} ({n / len(texts):.1%})")
            lost.append(f"{places:,} ({places / len(texts):.1%})")
        out += [(f"cut at {limit} word-pieces", cut), ("- that lose a place word", lost)]
    return out


def markdown(folder: Path) -> str:
    """Return all tables."""
    rows = references(folder)
    splits = by_split(rows)
    found = language.audit(splits, list(RRSISD))
    lines = ["| | " + " | ".join(splits) + " |", "|---|" + "---:|" * len(splits)]
    older = [
        sum(int(row["file_name"].split(".")[0]) <= DIOR_TRAINVAL for row in rows if row["split"] == split)
        for split in splits
    ]
    shares = [f"{n:,} ({n / found[split].n:.1%})" for n, split in zip(older, splits, strict=True)]
    parts = [*language.rows(found), *truncation(splits), (f"image number up to {DIOR_TRAINVAL}", shares)]
    lines += [f"| {label} | " + " | ".join(cells) + " |" for label, cells in parts]
    unknown = sum((one.unknown for one in found.values()), Counter[str]())
    words = ", ".join(f"{word} {n:,}" for word, n in unknown.most_common())
    common = Counter(text for text, _ in splits["test"]).most_common(1)[0][1]
    lines += ["", f"Words that the lexicon does not list: {words or 'none'}.", "",
              f"The commonest test sentence occurs {common} times."]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(Path(sys.argv[1])), end="")
