"""A trained word embedding with one LSTM layer: the text encoder of the CNN and LSTM systems.

Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 1997.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from rrsis_bench.backbones.interfaces import TextConfig, TextEncoder
from rrsis_bench.backbones.weights import RANDOM, load_strict, locate_weights, read_tensors, unreachable
from rrsis_bench.errors import UserError, reason

FIELD = "text"
UNIFORM = 0.08  # bound of the random start of an embedding that is learnt
NORMAL = 0.6  # deviation of the random start in place of GloVe's vectors
GLOVE = "glove:"
"""Prefix of ``text.weights`` before a text file of GloVe, which gives a word its vector by its name."""


@dataclass(frozen=True, slots=True)
class WordsConfig(TextConfig):
    """Size of the encoder.

    `weights` may name a file with the tensor ``weight`` (vocab_size, width) of the embedding, or with the prefix
    ``glove:`` a text file of word vectors.

    Attributes:
        width: of an embedded word.
        hidden: width of the LSTM; 0: no LSTM.
        start: random start of the embedding; ``"uniform"`` within 0.08, ``"normal"`` with GloVe's deviation 0.6.
    """

    width: int
    hidden: int
    start: Literal["uniform", "normal"]


@dataclass(frozen=True, slots=True)
class Words:
    """The encoded words of a batch; real words come first, and every feature of the slots behind them is 0.

    Attributes:
        embedded_BLD: embedded words.
        hidden_BLD: hidden states of the LSTM; the embedded words if there is no LSTM.
        last_BD: hidden state after the last word; 0 for a row without words.
        mask_BL: True for a real word.
        order_BL: slot that every word stood in before the words moved to the front.
    """

    embedded_BLD: Tensor
    hidden_BLD: Tensor
    last_BD: Tensor
    mask_BL: Tensor
    order_BL: Tensor

    def moved(self, slots_BL: Tensor) -> Tensor:
        """Return the present places of slots: of ``slots_BL[b, i]`` for the word that stood in slot i, all from 0."""
        return self.order_BL.argsort(dim=1).gather(1, slots_BL.gather(1, self.order_BL))


class WordEncoder(TextEncoder):
    """Word ids -> embedded words and hidden states."""

    Config = WordsConfig
    config: WordsConfig

    def __init__(self, config: WordsConfig) -> None:
        """Build the encoder and read its weights.

        Raises:
            UserError: sizes below 1, or weights that cannot be read.
        """
        super().__init__()
        self.config = cfg = config
        if cfg.width < 1 or cfg.hidden < 0:
            raise UserError(f"{FIELD}.width={cfg.width} must be at least 1 and {FIELD}.hidden={cfg.hidden} at least 0.")
        by_word = cfg.weights.startswith(GLOVE)
        self.vectors = locate_weights(cfg.weights.removeprefix(GLOVE), "word", f"{FIELD}.weights") if by_word else None
        weights = locate_weights(RANDOM if by_word else cfg.weights, "word", f"{FIELD}.weights")
        self.width = cfg.hidden or cfg.width
        self.embedding = nn.Embedding(cfg.vocab_size, cfg.width)
        if cfg.start == "uniform":
            nn.init.uniform_(self.embedding.weight, -UNIFORM, UNIFORM)
        else:
            nn.init.normal_(self.embedding.weight, std=NORMAL)
        self.lstm = LSTM(cfg.width, cfg.hidden) if cfg.hidden else None
        if weights is not None:
            load_strict(self.embedding, read_tensors(weights, "word", f"{FIELD}.weights"), cfg.weights, "word")

    @torch.no_grad()
    def start_from_vectors(self, ids: Mapping[str, int]) -> int:
        """Give the words of a vocabulary their vectors from the file after ``glove:``; others keep their random start.

        Args:
            ids: word -> row of the embedding.

        Returns:
            The number of words that have a vector; 0 without such a file.

        Raises:
            UserError: the file cannot be read, or has no word of the vocabulary.
        """
        if self.vectors is None:
            return 0
        found = read_glove(self.vectors, ids, self.config.width)
        for row, vector_D in found.items():
            self.embedding.weight[row] = vector_D.to(self.embedding.weight)
        return len(found)

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Return hidden states (B, L, D) of int64 ids (B, L), with the words in front; see `read`."""
        return self.read(ids_BL, mask_BL).hidden_BLD

    def read(self, ids_BL: Tensor, mask_BL: Tensor) -> Words:
        """Move the words of every row to the front and encode them.

        Args:
            ids_BL: int64 ids.
            mask_BL: 1 for the words of the expression; special tokens and padding are skipped.
        """
        mask_BL, order_BL = torch.sort(mask_BL.bool(), dim=1, descending=True, stable=True)
        real_BL1 = mask_BL[..., None]
        embedded_BLD = self.embedding(ids_BL.gather(1, order_BL)) * real_BL1
        if self.lstm is None:
            return Words(embedded_BLD, embedded_BLD, embedded_BLD[:, -1], mask_BL, order_BL)
        hidden_BLD = self.lstm(embedded_BLD, mask_BL)
        return Words(embedded_BLD, hidden_BLD * real_BL1, hidden_BLD[:, -1], mask_BL, order_BL)


class LSTM(nn.Module):
    """One LSTM layer with one bias and 1 added to the forget gate, as in TensorFlow's `BasicLSTMCell`.

    `nn.LSTM` has a second bias, so its number of parameters is another one. Slots without a word carry the state.
    """

    def __init__(self, width: int, hidden: int) -> None:
        """Build a layer from `width` to `hidden` channels."""
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Linear(width + hidden, 4 * hidden)  # rows: input, candidate, forget, output
        nn.init.xavier_uniform_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the hidden state (B, L, D) after every slot."""
        from_input, from_hidden = self.gates.weight.split((x_BLD.shape[2], self.hidden), dim=1)
        given_BLD = nn.functional.linear(x_BLD, from_input, self.gates.bias)
        cell_BD = hidden_BD = x_BLD.new_zeros(len(x_BLD), self.hidden)
        states = []
        for slot in range(x_BLD.shape[1]):
            i, j, f, o = (given_BLD[:, slot] + hidden_BD @ from_hidden.T).chunk(4, dim=1)
            next_BD = torch.sigmoid(f + 1) * cell_BD + torch.sigmoid(i) * torch.tanh(j)
            real_B1 = mask_BL[:, slot, None]
            hidden_BD = torch.where(real_B1, torch.sigmoid(o) * torch.tanh(next_BD), hidden_BD)
            cell_BD = torch.where(real_B1, next_BD, cell_BD)
            states.append(hidden_BD)
        return torch.stack(states, dim=1)


def read_glove(path: Path, ids: Mapping[str, int], width: int) -> dict[int, Tensor]:
    """Read the vectors of a vocabulary from a text file of GloVe, without holding the file in memory.

    A line is a word and its numbers, separated by single blanks, in UTF-8. Some words of the released files contain
    blanks, so the numbers are counted from the end. The first of several lines for one word counts.

    Args:
        path: such as ``glove.840B.300d.txt``.
        ids: word -> row.
        width: numbers per word.

    Returns:
        Row -> float32 vector (width,).

    Raises:
        UserError: another number of values in a line, values that are no finite numbers, or no word of the vocabulary.
    """
    field, found = f"{FIELD}.weights", dict[int, Tensor]()

    def wrong(problem: BaseException | str) -> UserError:
        return unreachable("word", f"{GLOVE}{path}", field, problem)

    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                word, *values = line.rstrip("\r\n").rsplit(" ", width)
                blanks = line.rstrip("\r\n").count(" ")
                if len(values) != width or (number == 1 and blanks != width):
                    raise wrong(f"line {number} has {blanks} numbers, but {FIELD}.width={width}")
                row = ids.get(word)
                if row is not None and row not in found:
                    vector_D = torch.tensor([float(value) for value in values])
                    if not bool(vector_D.isfinite().all()):
                        raise wrong(f"line {number} holds a value that is not finite")
                    found[row] = vector_D
    except UnicodeDecodeError as error:
        raise wrong(f"it is no text in UTF-8 ({reason(error)})") from error
    except ValueError as error:
        raise wrong(f"line {number}: {reason(error)}") from error
    if not found:
        raise wrong("it has no word of the training expressions")
    return found
