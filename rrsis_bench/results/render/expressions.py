"""Read the expressions of sample ids from the dataset, since records do not hold them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rrsis_bench.codec import parse_yaml
from rrsis_bench.config.cards import data_config
from rrsis_bench.config.schema import Config, DataConfig
from rrsis_bench.errors import UserError, reason
from rrsis_bench.results.record.schema import Record


def expressions(record: Record, root: Path | None = None, runs: Path = Path("runs")) -> tuple[dict[str, str], str]:
    """Sample id -> expression in the record's split.

    The folder is the one given, else that of the run's own configuration, else that of ``conf/data``. Its fingerprint
    must be the record's: the same id could be another expression in another version of the data.

    Args:
        record: of the run.
        root: the dataset's folder, if it is known.
        runs: the folder of the runs, with their configurations and the cache of the images' hashes.

    Returns:
        The expressions, and why there are none (empty if there are some).
    """
    from rrsis_bench.data.checks.fingerprint import fingerprint
    from rrsis_bench.data.formats import read_index

    seen = []
    for fmt, folder, options in _folders(record, root, runs):
        if (folder, options) in seen or not folder.is_dir():
            continue
        seen.append((folder, options))
        try:
            index = read_index(fmt, folder, options)
            if fingerprint(index, runs / ".fingerprints") == record.dataset_fingerprint:
                return {row.sample_id: row.expression for row in index.rows[record.split]}, ""
        except UserError:
            continue  # no dataset in this folder; the note below says that none was found
    found = "another version of it was found" if seen else "none was found"
    return {}, (
        f"Expressions are not shown: the {record.data} that these rows were scored on is not at hand ({found}). "
        "--data-root names its folder."
    )


def _folders(record: Record, root: Path | None, runs: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Format, folder and ``data.options`` of the folders that may hold the dataset."""
    configs: list[DataConfig] = []
    own = runs / record.run_id / "config.yaml"
    if own.is_file():
        try:
            composed = parse_yaml(own.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{own} cannot be read: {reason(error)}.") from error
        configs.append(Config.parse(composed, str(own)).data)
    try:
        configs.append(data_config(record.data))
    except UserError:
        if not configs:
            return  # a dataset that only its run knows
    for config in configs:
        folder = Path(config.root) if root is None else root
        yield config.format, folder, config.options
        if config.synthetic and folder.is_dir():  # one folder per set of scenes
            yield from ((config.format, path, config.options) for path in sorted(folder.iterdir()))
