"""Writes a tiny dataset in RefSegRS's or RISBench's format, on demand with seeded defects."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from rrsis_bench.data.formats import format_module
from rrsis_bench.data.formats.file_list import FileListFormat, list_path

FILE_LISTS: dict[str, FileListFormat] = {fmt: format_module(fmt).FORMAT for fmt in ("refsegrs", "risbench")}
PHRASES = {
    "refsegrs": ("paved road", "vehicles along the road", "road marking", "low vegetation"),
    "risbench": ("The small vehicle in the middle .", "The planes on the left", "The baseball field", "A tank"),
}
# Defect -> whether it is an error. Both formats can have these.
DEFECTS = {
    "missing_image": True, "empty_image": True, "truncated_image": True, "unsupported_image": True, "alpha": False,
    "missing_mask": True, "unreadable_mask": True, "grey_levels": False, "empty_mask": False, "size_differs": False,
    "empty_expression": True, "undecodable_text": True, "blank_line": False, "duplicate_line": False,
    "id_in_two_splits": True, "long_expression": False, "non_ascii_expression": False, "unused_file": False,
    "shared_image": False, "shared_mask": False, "unmatched_category": False,
}  # fmt: skip
NAME_DEFECTS = ("unusual_name", "image_differs")  # RISBench's names say more


@dataclass
class FakeFileList:
    """What was written.

    Attributes:
        form: RefSegRS's or RISBench's.
        root: the dataset's folder.
        lines: split -> name and expression of each line.
        images: name -> uint8 (H, W, 3).
        masks: name -> bool (H, W).
        defects: defect -> what a check should name.
    """

    form: FileListFormat
    root: Path
    lines: dict[str, list[tuple[str, str]]]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    defects: dict[str, str] = field(default_factory=dict)

    def image(self, name: str) -> Path:
        """The image of a name."""
        return self.form.image(self.root, name)

    def mask(self, name: str) -> Path:
        """The mask of a name."""
        return self.form.mask(self.root, name)

    def path(self, split: str) -> Path:
        """The list file of a split."""
        return list_path(self.root, split)

    def write(self) -> None:
        """Write the list files."""
        for split, lines in self.lines.items():
            self.path(split).write_text("".join(f"{name} {text}\n" for name, text in lines), encoding="utf-8")


def write_fake_file_list(
    fmt: str, root: Path, n_train: int = 8, n_val: int = 4, n_test: int = 4, *, defects: Collection[str] = ()
) -> FakeFileList:
    """Write the tree: noise with a white rectangle each; in RISBench two objects to an image.

    Args:
        fmt: ``"refsegrs"`` or ``"risbench"``.
        root: written to.
        n_train: lines per split.
        n_val: the same.
        n_test: the same.
        defects: from `DEFECTS` (and `NAME_DEFECTS` for RISBench); each hits another image of the train split.
    """
    rng = np.random.default_rng(7)
    tree = FakeFileList(FILE_LISTS[fmt], root, {"train": [], "val": [], "test": []})
    for folder in (tree.form.images, tree.form.masks):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, count in (("train", n_train), ("val", n_val), ("test", n_test)):
        for index in range(count):
            if fmt == "refsegrs":
                name, shared = str(1361 + len(tree.images)), None
            else:
                name = f"{split}_{index // 2}_{index % 2}.png"
                shared = f"{split}_{index // 2}_0.png" if index % 2 else None
            image_HWC = tree.images[shared] if shared else rng.integers(0, 200, (36, 32, 3), dtype=np.uint8)
            mask_HW = np.zeros((36, 32), dtype=bool)
            y, x = rng.integers(0, 20, size=2)
            mask_HW[y : y + 9, x : x + 6] = True
            mask_HW[32, :9] = (len(tree.masks) >> np.arange(9)) & 1 == 1  # no two masks are equal
            tree.images[name], tree.masks[name] = image_HWC, mask_HW
            Image.fromarray(image_HWC).save(tree.image(name))
            Image.fromarray(mask_HW.astype(np.uint8) * 255).save(tree.mask(name))
            tree.lines[split].append((name, PHRASES[fmt][index % len(PHRASES[fmt])]))
    tree.write()
    step = 1 if fmt == "refsegrs" else 2  # another image for each defect
    assert step * len(defects) < n_train, "too few lines for the defects"
    # What the file is written from goes first, what is done to the file's bytes last.
    for place, defect in enumerate(sorted(defects, key=lambda name: name in ("blank_line", "undecodable_text"))):
        tree.defects[defect] = _spoil(tree, defect, place * step)
    return tree


def entailed(tree: FakeFileList) -> list[tuple[str, str]]:
    """Kind and place of what a check finds beside the seeded defects, as it follows from them.

    RISBench's alpha defect is in both files of its picture, and a name of train in val is a picture of train in val,
    and no name of val's.
    """
    found = []
    risbench = tree.form.fmt == "risbench"
    if risbench and "alpha" in tree.defects:
        found.append(("alpha", tree.defects["alpha"].removesuffix("_0") + "_1"))
    if "id_in_two_splits" in tree.defects:
        found.append(("shared_image", "val"))
        if risbench:
            found.append(("unusual_name", tree.form.stem(tree.defects["id_in_two_splits"])))
    return found


def _spoil(tree: FakeFileList, defect: str, place: int) -> str:
    """Seed one defect into a line of train; returns what a check should name."""
    lines = tree.lines["train"]
    name, text = lines[place]
    where, image, mask = tree.form.stem(name), tree.image(name), tree.mask(name)
    level_HW = tree.masks[name].astype(np.uint8) * 255
    if defect in ("missing_image", "missing_mask"):
        (image if defect == "missing_image" else mask).unlink()
    elif defect == "empty_image":
        image.write_bytes(b"")
    elif defect == "truncated_image":
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    elif defect == "unsupported_image":
        Image.fromarray(tree.images[name][..., 0].astype(np.uint16) * 200).save(image)
    elif defect == "alpha":
        Image.fromarray(tree.images[name]).convert("RGBA").save(image)
        if tree.form.fmt == "risbench":  # the whole image
            shutil.copyfile(image, tree.image(lines[place + 1][0]))
    elif defect == "unreadable_mask":
        mask.write_bytes(mask.read_bytes()[: mask.stat().st_size // 2])
    elif defect == "grey_levels":
        level_HW[0, 0] = 120
        Image.fromarray(level_HW).save(mask)
    elif defect == "empty_mask":
        Image.fromarray(level_HW * 0).save(mask)
    elif defect == "size_differs":
        Image.fromarray(level_HW[:-1]).save(mask)
    elif defect == "empty_expression":
        lines[place] = (name, "")
    elif defect == "duplicate_line":
        lines.append((name, f" {text}"))
        where = name
    elif defect == "id_in_two_splits":
        tree.lines["val"].append((name, text))  # so val shows an image of train, too: see `entailed`
        where = name
    elif defect == "long_expression":
        lines[place] = (name, f"{text} " + "and so on " * 30)
    elif defect == "non_ascii_expression":
        lines[place] = (name, f"{text} — “here”")
    elif defect == "unused_file":
        shutil.copyfile(mask, tree.mask("9_9_9" if tree.form.suffix else "9_9_9.png"))
        return tree.form.masks
    elif defect == "shared_image":
        shutil.copyfile(image, tree.image(tree.lines["test"][-1][0]))
        if tree.form.fmt == "risbench":  # the whole image
            shutil.copyfile(image, tree.image(tree.lines["test"][-2][0]))
        return "test"
    elif defect == "shared_mask":
        shutil.copyfile(mask, tree.mask(tree.lines["test"][-1][0]))
        return tree.form.stem(tree.lines["test"][-1][0])
    elif defect == "unmatched_category":
        lines[place] = (name, "the thing on the left")
        where = "train"
    elif defect == "unusual_name":
        new = "7-1.png"
        image.rename(tree.image(new))
        mask.rename(tree.mask(new))
        lines[place], where = (new, text), "7-1"
    elif defect == "image_differs":
        Image.fromarray(255 - tree.images[name]).save(tree.image(lines[place + 1][0]))
        where = tree.form.stem(lines[place + 1][0])
    elif defect == "blank_line":
        path = tree.path("train")
        *raw, last, _ = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join([*raw, b"", last, b""]))
        return f"{path.name}:{len(raw) + 1}"
    elif defect == "undecodable_text":
        path = tree.path("train")
        raw = path.read_bytes().split(b"\n")
        number = next(index for index, line in enumerate(raw) if line.startswith(name.encode()))
        raw[number] += b" caf\xe9"
        path.write_bytes(b"\n".join(raw))
        return f"{path.name}:{number + 1}"
    else:
        raise ValueError(f"no defect {defect!r}")
    tree.write()
    return where
