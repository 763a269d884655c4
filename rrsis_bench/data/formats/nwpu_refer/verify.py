"""The check of NWPU-Refer's files; see `verify.py` for what is an error and what a warning."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rrsis_bench.data.checks.verify import ERROR, WARNING, VerifyReport, length_remark
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.nwpu_refer.files import (
    CATEGORIES,
    LANGUAGES,
    NO_TARGET,
    Index,
    expressions_of,
    group,
    id_of,
    images_dir,
)
from rrsis_bench.data.pixels import polygons
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.pixels.images import check_pictures


def verify_nwpu_refer(
    root: Path, expected_counts: dict[str, int] | None = None, console: Console | None = None
) -> VerifyReport:
    """Check every reference, annotation, polygon and picture; pictures are decoded completely, on all cores.

    The counts are those of the default reading: English expressions, merged by picture and expression. Those of the
    other readings are in the report's notes.

    Raises:
        UserError: the dataset is missing, or one of its two files cannot be read at all.
    """
    index = Index.read(root)
    report = VerifyReport("nwpu_refer", root, {}, expected_counts)
    for split in SPLITS:
        for language in LANGUAGES:
            groups, notes = group(index, split, language, merge=True)
            if language == "en" and groups:
                report.counts[split] = len(groups)
            report.notes.append(notes[0])
    report.compare_counts()
    report.findings += [defect.finding for defect in index.defects]
    _check_categories(report, index)
    damaged = {defect.finding.where for defect in index.defects if defect.finding.severity == ERROR}
    sound = [ref for ref in index.refs if id_of(ref.get("ref_id")) not in damaged]
    _check_masks(report, index, sound)
    _check_groups(report, index, sound)
    _check_pictures(report, index, console)
    return report


def _check_categories(report: VerifyReport, index: Index) -> None:
    """Names that the published file does not have, or has and this one lacks."""
    names = set(index.names.values())
    for kind, found in (("not of", names - set(CATEGORIES)), ("missing from", set(CATEGORIES) - names)):
        if found:
            message = f"{kind} the published list of {len(CATEGORIES)}: {', '.join(sorted(found))}"
            report.add(WARNING, "categories_differ", "categories", message)


def _check_masks(report: VerifyReport, index: Index, refs: list[dict[str, Any]]) -> None:
    """Polygons that cover no pixel; each annotation is drawn once."""
    seen: set[Any] = set()
    for ref in refs:
        if ref["ann_id"] in seen or index.no_target(ref):
            continue
        seen.add(ref["ann_id"])
        rle = polygons.rasterise([index.shapes[ref["ann_id"]]], index.size_of(ref["image_id"]))
        if masks.area(rle) == 0:
            message = f"the polygons of annotation {ref['ann_id']} cover no pixel"
            report.add(WARNING, "empty_mask", id_of(ref["ref_id"]), message)


def _check_groups(report: VerifyReport, index: Index, refs: list[dict[str, Any]]) -> None:
    """Expressions of one picture that contradict themselves, and those longer than a model sees."""
    said: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for ref in refs:
        for _, text in expressions_of(ref):
            said[ref["split"], ref["image_id"], text].append(ref)
    found: dict[tuple[str, str], str] = {}  # kind, place -> message; its other language says the same
    for (_, _, text), members in said.items():
        where = id_of(members[0]["ref_id"])
        if len({index.no_target(ref) for ref in members}) > 1:
            found.setdefault(
                ("target_and_none", where), f"'{text}' has references with a target and without one: the former count"
            )
        if len({index.names[ref["category_id"]] for ref in members} - {NO_TARGET}) > 1:
            found.setdefault(
                ("several_categories", where), f"'{text}' joins objects of several categories: its sample has none"
            )
        if remark := length_remark(text):
            found.setdefault(("long_expression", where), remark)
    for (kind, where), message in found.items():
        report.add(WARNING, kind, where, message)


def _check_pictures(report: VerifyReport, index: Index, console: Console | None) -> None:
    """Every picture that a reference shows, decoded once; a defect is noted with the first reference that shows it."""
    folder = images_dir(index.root)
    first: dict[str, dict[str, Any]] = {}
    for ref in index.refs:
        name = index.images.get(ref.get("image_id"), {}).get("file_name")
        if isinstance(name, str) and name in index.files:
            first.setdefault(name, ref)
    checked = check_pictures([folder / name for name in sorted(first)], console)
    for name, ref in first.items():
        picture, where = checked[folder / name], id_of(ref.get("ref_id"))
        report.add_picture(where, name, picture)
        image = index.images[ref["image_id"]]
        if picture.size is not None and picture.size != (image.get("width"), image.get("height")):
            report.add(
                WARNING, "size_differs", where,
                f"{name} is {picture.size[0]} x {picture.size[1]}, but its record says {image.get('width')} x "
                f"{image.get('height')}",
            )  # fmt: skip
    shown = [(ref, index.images.get(ref.get("image_id"), {}).get("file_name")) for ref in index.refs]
    report.compare_pictures(
        (str(ref.get("split")), checked[folder / name].sha256) for ref, name in shown if name in first
    )
