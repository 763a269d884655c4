"""BERT as the text encoder, on transformers' `BertModel` without its pooler.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019.
"""

# P = appended vectors

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig as HFBertConfig
from transformers import BertModel

from rrsis_bench.backbones.interfaces import TextConfig, TextEncoder
from rrsis_bench.backbones.weights import load_strict, locate_weights, read_tensors
from rrsis_bench.errors import UserError

FIELD = "text"
# Keys of a pre-training checkpoint that are not part of the encoder: two heads, the pooler and a counter buffer.
IGNORED = ("cls.", "pooler.", "embeddings.position_ids")


@dataclass(frozen=True, slots=True)
class BertConfig(TextConfig):
    """Size of the encoder. `weights` may name a transformers folder or weights file.

    Attributes:
        hidden: width of a token's features.
        layers: encoder layers.
        heads: attention heads per layer.
        intermediate: width inside the feed-forward blocks.
        max_positions: longest text in tokens.
        dropout: rate for hidden states and attention.
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    max_positions: int
    dropout: float


class BertEncoder(TextEncoder):
    """Token ids -> contextual token features."""

    Config = BertConfig
    config: BertConfig

    def __init__(self, config: BertConfig) -> None:
        """Build the encoder and read its weights.

        Raises:
            UserError: sizes that do not fit each other, or weights that cannot be read.
        """
        super().__init__()
        self.config = cfg = config
        if cfg.hidden % cfg.heads:
            raise UserError(f"{FIELD}.heads={cfg.heads} does not divide {FIELD}.hidden={cfg.hidden}.")
        weights = locate_weights(cfg.weights, "BERT", f"{FIELD}.weights")
        self.width = cfg.hidden
        self.bert = BertModel(  # type: ignore[no-untyped-call]
            HFBertConfig(
                hidden_size=cfg.hidden,
                num_hidden_layers=cfg.layers,
                num_attention_heads=cfg.heads,
                intermediate_size=cfg.intermediate,
                vocab_size=cfg.vocab_size,
                max_position_embeddings=cfg.max_positions,
                hidden_dropout_prob=cfg.dropout,
                attention_probs_dropout_prob=cfg.dropout,
            ),
            add_pooling_layer=False,
        )
        if weights is not None:
            tensors = adapt_bert_keys(read_tensors(weights, "BERT", f"{FIELD}.weights"))
            load_strict(self.bert, tensors, cfg.weights, "BERT", ignored=IGNORED)

    def keep_layers(self, count: int) -> None:
        """Leave out the layers behind the first `count`, for a model that has others there.

        Raises:
            UserError: the encoder has fewer layers.
        """
        layers = self.bert.encoder.layer
        if not 1 <= count <= len(layers):
            raise UserError(f"The model keeps {count} layers of BERT, but {FIELD}.layers={len(layers)}.")
        self.bert.encoder.layer = layers[:count]

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, appended_BPD: Tensor | None = None) -> Tensor:
        """Return features (B, L, D) of int64 ids (B, L); every token attends to the tokens with mask 1.

        A row without any 1 attends to all of its tokens. The LAVT family's code does the same, because it adds the same
        large negative number to every score.

        Args:
            ids_BL: token ids.
            mask_BL: 1 for words.
            appended_BPD: vectors behind the embedded words, without positions, that every token attends to as well.
        """
        if appended_BPD is not None:
            tokens_BND = torch.cat([self.bert.embeddings(input_ids=ids_BL), appended_BPD], dim=1)
            mask_BN = F.pad(mask_BL, (0, appended_BPD.shape[1]), value=1)
            added_B11N = 1e4 * (mask_BN[:, None, None].to(tokens_BND.dtype) - 1)
            encoded_BND: Tensor = self.bert.encoder(tokens_BND, attention_mask=added_B11N).last_hidden_state
            return encoded_BND[:, : ids_BL.shape[1]]
        attended_BL = torch.where(mask_BL.any(1, keepdim=True), mask_BL, torch.ones_like(mask_BL))
        words_BLD: Tensor = self.bert(input_ids=ids_BL, attention_mask=attended_BL).last_hidden_state
        return words_BLD


def adapt_bert_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename BERT weights to `BertModel`'s keys: no ``bert.`` prefix, current names of LayerNorm's weight and bias."""
    adapted = {}
    for key, value in tensors.items():
        key = key.removeprefix("bert.")
        if "LayerNorm" in key:
            key = key.replace(".gamma", ".weight").replace(".beta", ".bias")
        adapted[key] = value
    return adapted
