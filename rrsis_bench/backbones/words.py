"""A trained word embedding with one LSTM layer: the text encoder of the CNN and LSTM systems.

Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 1997.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rrsis_bench.backbones.interfaces import TextConfig, TextEncoder
from rrsis_bench.backbones.weights import load_strict, locate_weights, read_tensors
from rrsis_bench.errors import UserError

FIELD = "text"
UNIFORM = 0.08  # bound of the random start of an embedding that is learnt
NORMAL = 0.6  # deviation of the random start in place of GloVe's vectors


@dataclass(frozen=True, slots=True)
class WordsConfig(TextConfig):
    """Size of the encoder. `weights` may name a file with the tensor ``weight`` (vocab_size, width) of the embedding.

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
    """

    embedded_BLD: Tensor
    hidden_BLD: Tensor
    last_BD: Tensor
    mask_BL: Tensor


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
        weights = locate_weights(cfg.weights, "word", f"{FIELD}.weights")
        self.width = cfg.hidden or cfg.width
        self.embedding = nn.Embedding(cfg.vocab_size, cfg.width)
        if cfg.start == "uniform":
            nn.init.uniform_(self.embedding.weight, -UNIFORM, UNIFORM)
        else:
            nn.init.normal_(self.embedding.weight, std=NORMAL)
        self.lstm = LSTM(cfg.width, cfg.hidden) if cfg.hidden else None
        if weights is not None:
            load_strict(self.embedding, read_tensors(weights, "word", f"{FIELD}.weights"), cfg.weights, "word")

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
            return Words(embedded_BLD, embedded_BLD, embedded_BLD[:, -1], mask_BL)
        hidden_BLD = self.lstm(embedded_BLD, mask_BL)
        return Words(embedded_BLD, hidden_BLD * real_BL1, hidden_BLD[:, -1], mask_BL)


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
