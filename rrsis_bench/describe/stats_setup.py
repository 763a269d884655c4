"""Choose the tokenizer and the token limit for ``rrsis-bench data stats``."""

from __future__ import annotations

from rich.text import Text

from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.schema import Config
from rrsis_bench.console import Terminal
from rrsis_bench.data.text.tokenizers import FROM_EXPRESSIONS, build_from_expressions, load_tokenizer
from rrsis_bench.describe.stats import TextLimit
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ReferringDataset
from rrsis_bench.run.model import TOKENIZER, VOCAB_SIZE


def configure(data: str, model: str | None, size: str | None) -> Config:
    """Compose the configuration of a run with this dataset, model and size.

    Args:
        data: a name of ``conf/data``.
        model: a model's name; None: the suite's default.
        size: a name of ``conf/size``; None: the dataset's own.

    Raises:
        UserError: an unknown name.
    """
    chosen = {"data": data, "model": model, "size": size}
    return compose_config([f"{group}={name}" for group, name in chosen.items() if name is not None])


def text_limit(
    config: Config, train: ReferringDataset, max_tokens: int | None, console: Terminal, *, strict: bool
) -> TextLimit | None:
    """Return a run's tokenizer (for ``wordpiece`` and ``words`` from the training expressions) and its token limit.

    Args:
        config: from `configure`.
        train: the training split.
        max_tokens: another limit than the model's, or None.
        console: reports why word-pieces are not counted if the tokenizer is not available.
        strict: raise instead.

    Raises:
        UserError: `max_tokens` is too small, or the tokenizer is not available and `strict` is set.
    """
    source, limit = config.tokenizer, max_tokens
    if limit is None:
        args = config.model.args
        limit = int(config.text.get("context_length") or args["max_tokens"])
    if limit < 3:
        raise UserError(f"--max-tokens {limit} must be at least 3: two special tokens and a word.")
    try:
        if source in FROM_EXPRESSIONS:
            expressions = (train[index].expression for index in range(len(train)))
            tokenizer = build_from_expressions(source, expressions, int(config.text["vocab_size"]), VOCAB_SIZE)
        else:
            tokenizer = load_tokenizer(source, TOKENIZER)
    except UserError as error:
        if strict:
            raise
        reason = str(error).splitlines()[0]
        console.print(Text.assemble(("Word-pieces are not counted:", "yellow"), f" {reason}"), soft_wrap=True)
        console.print("--size tiny counts them with a vocabulary made of the training expressions.", highlight=False)
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    named = config.model.name if max_tokens is None else "--max-tokens"
    return TextLimit(tokenizer, limit, f"{source}, limit of {named}")
