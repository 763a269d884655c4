"""Who confirmed a record: ``verified.json`` beside the tables.

A list of ``{"attestation": ..., "by": ..., "date": ..., "statement": ...}``. The attestation is the sha256 that
`rrsis-bench cite` prints, over the record and its integers. A confirmation therefore ends when the record changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rrsis_bench import codec
from rrsis_bench.errors import UserError

NAME = "verified.json"


@dataclass(frozen=True, slots=True)
class Verification:
    """One confirmation of one record."""

    attestation: str  # sha256 over the record and its integers
    by: str  # who, and in which role: "J. Doe, author of the model"
    date: str  # ISO 8601
    statement: str  # what was confirmed


@dataclass(frozen=True, slots=True)
class _File:
    verifications: list[Verification]


def verifications(root: Path) -> dict[str, tuple[str, ...]]:
    """Return attestation -> who confirmed it; UserError if ``verified.json`` does not fit."""
    file = root / NAME
    try:
        content = codec.parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}.") from error
    found: dict[str, tuple[str, ...]] = {}
    for entry in codec.decode(_File, {"verifications": content}, str(file)).verifications:
        found[entry.attestation] = (*found.get(entry.attestation, ()), entry.by)
    return found
