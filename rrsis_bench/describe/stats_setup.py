"""Which tokenizer and which token limit ``rrsis-bench data stats`` counts with."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from rrsis_bench import registry
from rrsis_bench.config.compose import CONF, compose_config
from rrsis_bench.data.text.tokenizers import (
    FIELD,
    WORDPIECE,
    build_vocabulary,
    load_tokenizer,
    tokenizer_source,
)
from rrsis_bench.describe.stats import TextLimit
from rrsis_bench.errors import UserError, unknown
from rrsis_bench.interfaces import ReferringDataset


def configure(data: str, model: str | None, size: str | None) -> dict[str, Any]:
    """Compose what a run of this dataset, model and size would read.

    Args:
        data: a name of ``conf/data``.
        model: a model's name; None: the suite's default.
        size: a name of ``conf/size``; None: the dataset's own.

    Raises:
        UserError: an unknown name.
    """
    if model is not None:
        registry.find(model)
    for kind, name in (("data", data), ("size", size)):
        known = sorted(path.stem for path in (CONF / kind).glob("*.yaml"))
        if name is not None and name not in known:
            raise unknown("dataset" if kind == "data" else kind, name, known)
    chosen = {"data": data, "model": model, "size": size}
    return compose_config([f"{group}={name}" for group, name in chosen.items() if name is not None])


def text_limit(
    config: dict[str, Any], train: ReferringDataset, max_tokens: int | None, console: Console, *, strict: bool
) -> TextLimit | None:
    """The tokenizer that a run reads (a vocabulary of the training expressions for ``wordpiece``) and the token limit.

    Args:
        config: from `configure`.
        train: the training split.
        max_tokens: another limit than the model's, or None.
        console: says why word-pieces are left out, where the tokenizer is not at hand.
        strict: refuse instead.

    Raises:
        UserError: `max_tokens` leaves no room, or the tokenizer is not at hand and `strict` is set.
    """
    source = tokenizer_source(config)
    args, limit = config["model"]["args"], max_tokens
    if limit is None:
        limit = int(config["text"].get("context_length") or args["max_tokens"])
    if limit < 3:
        raise UserError(f"--max-tokens {limit} leaves no room for a word beside two special tokens.")
    try:
        if source == WORDPIECE:
            tokenizer = build_vocabulary(config, (train[index].expression for index in range(len(train))))
        else:
            tokenizer = load_tokenizer(source, FIELD)
    except UserError as error:
        if strict:
            raise
        reason = escape(str(error).splitlines()[0])
        console.print(f"[yellow]Word-pieces are not counted:[/] {reason}", highlight=False, soft_wrap=True)
        console.print("--size tiny counts them with a vocabulary made of the training expressions.", highlight=False)
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    named = config["model"]["name"] if max_tokens is None else "--max-tokens"
    return TextLimit(tokenizer, limit, f"{source}, limit of {named}")
