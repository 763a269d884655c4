"""The check of RRSIS-D's files; see `verify.py` for what is an error and what a warning."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rrsis_bench.data.checks.verify import ERROR, WARNING, VerifyReport
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.refer_files import (
    annotation_category,
    category_names_of,
    images_dir,
    read_instances,
    read_refs,
    require_layout,
    sample_id_of,
)
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.pixels.images import PictureCheck, check_pictures

_FIELDS = ("ref_id", "ann_id", "category_id", "file_name", "sentences", "split")


def verify_rrsisd(
    root: Path, expected_counts: dict[str, int] | None = None, console: Console | None = None
) -> VerifyReport:
    """Check every reference, annotation, mask and picture; pictures are decoded completely, on all cores.

    Raises:
        UserError: the dataset is missing, or refs(unc).p or instances.json cannot be read at all.
    """
    require_layout(root)
    instances = read_instances(root)
    refs = read_refs(root)
    counts = Counter(str(ref.get("split")) for ref in refs)
    ordered = {split: counts[split] for split in (*SPLITS, *sorted(set(counts) - set(SPLITS))) if counts[split]}
    report = VerifyReport("rrsisd", root, ordered, expected_counts)
    report.compare_counts()
    names = category_names_of(instances)
    annotations = _annotations(report, instances)
    _check_ids(report, refs)
    folder = images_dir(root)
    files = {str(ref["file_name"]) for ref in refs if "file_name" in ref}
    checked = check_pictures([folder / name for name in files & set(os.listdir(folder))], console)
    missing = PictureCheck(kind="missing_image", message="is missing")
    pictures = {name: checked.get(folder / name, missing) for name in files}
    for ref in refs:
        _check_ref(report, ref, names, annotations, pictures)
    report.compare_pictures(
        (str(ref.get("split")), pictures[str(ref["file_name"])].sha256) for ref in refs if "file_name" in ref
    )
    return report


def _annotations(report: VerifyReport, instances: dict[str, Any]) -> dict[Any, dict[str, Any]]:
    """Annotations by id, with repeated ids noted."""
    by_id: dict[Any, dict[str, Any]] = {}
    for row in instances["annotations"]:
        if row.get("id") in by_id:
            report.add(ERROR, "duplicate_annotation", f"annotation {row.get('id')}", "stands twice in instances.json")
        by_id[row.get("id")] = row
    return by_id


def _check_ids(report: VerifyReport, refs: list[dict[str, Any]]) -> None:
    """Ids that occur twice, within a split or over splits."""
    splits: dict[Any, list[str]] = defaultdict(list)
    for ref in refs:
        splits[ref.get("ref_id")].append(str(ref.get("split")))
    for ref_id, found in splits.items():
        if len(set(found)) > 1:
            where = ", ".join(sorted(set(found)))
            report.add(ERROR, "id_in_two_splits", _id(ref_id), f"ref_id {ref_id} stands in the splits {where}")
        if len(found) > len(set(found)):
            report.add(ERROR, "duplicate_id", _id(ref_id), f"ref_id {ref_id} stands {len(found)} times")


def _check_ref(
    report: VerifyReport,
    ref: dict[str, Any],
    names: dict[int, str],
    annotations: dict[Any, dict[str, Any]],
    pictures: dict[str, PictureCheck],
) -> None:
    """Every defect of one reference."""
    where = _id(ref.get("ref_id"))
    absent = [name for name in _FIELDS if name not in ref]
    if absent:
        report.add(ERROR, "missing_field", where, f"the reference has no {', '.join(absent)}")
        return
    if ref["split"] not in SPLITS:
        report.add(ERROR, "unknown_split", where, f"split '{ref['split']}' is none of {', '.join(SPLITS)}")
    _check_expression(report, ref, where)
    if ref["category_id"] not in names:
        report.add(ERROR, "unknown_category", where, f"category_id {ref['category_id']} is not in instances.json")

    picture = pictures[str(ref["file_name"])]
    report.add_picture(where, str(ref["file_name"]), picture)

    annotation = annotations.get(ref["ann_id"])
    if annotation is None:
        report.add(ERROR, "missing_annotation", where, f"annotation {ref['ann_id']} is not in instances.json")
        return
    if annotation_category(annotation) != ref["category_id"]:
        report.add(
            ERROR, "category_mismatch", where,
            f"category_id {ref['category_id']}, but its annotation has categories_id {annotation_category(annotation)}",
        )  # fmt: skip
    if "image_id" in ref and annotation.get("image_id") != ref["image_id"]:
        message = f"image_id {ref['image_id']}, but its annotation has {annotation.get('image_id')}"
        report.add(ERROR, "image_mismatch", where, message)
    try:
        rle = masks.normalise_rle(annotation.get("segmentation"))
        masks.check_rle(rle)
    except ValueError as error:
        report.add(ERROR, "unreadable_mask", where, f"annotation {ref['ann_id']}: {error}")
        return
    if masks.area(rle) == 0:
        report.add(WARNING, "empty_mask", where, "the mask has no pixel (known of a few public samples)")
    height, width = rle["size"]
    if picture.size is not None and picture.size != (width, height):
        report.add(
            WARNING, "size_differs", where,
            f"{ref['file_name']} is {picture.size[0]} x {picture.size[1]}, but its mask is {width} x {height}",
        )  # fmt: skip


def _check_expression(report: VerifyReport, ref: dict[str, Any], where: str) -> None:
    """Sentence count, emptiness, length and script."""
    sentences = ref["sentences"]
    if not isinstance(sentences, list) or not all(isinstance(sentence, dict) for sentence in sentences):
        report.add(ERROR, "empty_expression", where, "its sentences are not a list of records")
        return
    if len(sentences) > 1:
        report.add(ERROR, "several_sentences", where, f"{len(sentences)} sentences, expected one")
    text = sentences[0].get("raw", sentences[0].get("sent")) if sentences else None
    if not isinstance(text, str) or not text.strip():
        report.add(ERROR, "empty_expression", where, "it has no sentence with words in it")
        return
    report.add_length(where, text)
    if not text.isascii():
        report.add(WARNING, "non_ascii_expression", where, f"'{text}' holds characters outside ASCII")


def _id(ref_id: Any) -> str:
    return sample_id_of(ref_id) if isinstance(ref_id, int) else f"ref_id {ref_id!r}"
