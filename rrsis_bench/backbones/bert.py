"""BERT as the text encoder, on transformers' `BertModel` without its pooler.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig as HFBertConfig
from transformers import BertModel

from rrsis_bench.backbones.config import parse_config
from rrsis_bench.backbones.weights import load_strict, locate_weights, read_tensors
from rrsis_bench.errors import UserError

FIELD = "text"
# What a pre-training checkpoint holds beside the encoder: the two pre-training heads, the pooler and a counter buffer.
IGNORED = ("cls.", "pooler.", "embeddings.position_ids")


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Size and weights of the encoder; the defaults are BERT-base, uncased.

    Attributes:
        hidden: width of a token's features.
        layers: encoder layers.
        heads: attention heads per layer.
        intermediate: width inside the feed-forward blocks.
        vocab_size: rows of the word embedding.
        max_positions: longest text in tokens.
        dropout: of hidden states and attention.
        weights: ``"random"``, ``"hub:<id>"`` or a path to a transformers folder or weights file.
    """

    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    vocab_size: int = 30522
    max_positions: int = 512
    dropout: float = 0.1
    weights: str = "hub:google-bert/bert-base-uncased"


class BertEncoder(nn.Module):
    """Token ids -> contextual token features.

    Attributes:
        config: the parsed configuration.
        width: D, the width of the features.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Build the encoder and fetch its weights.

        Raises:
            UserError: unknown fields, sizes that do not go together, or weights that cannot be read.
        """
        super().__init__()
        self.config = cfg = parse_config(BertConfig, config, FIELD)
        if cfg.hidden % cfg.heads:
            raise UserError(f"{FIELD}.heads={cfg.heads} does not divide {FIELD}.hidden={cfg.hidden}.")
        weights = locate_weights(cfg.weights, "BERT", f"{FIELD}.weights")
        self.width = cfg.hidden
        self.bert = BertModel(
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

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Features (B, L, D) of int64 ids (B, L); every token attends to the tokens with mask 1.

        A row without any 1 attends to all of its tokens, as in the LAVT family's code, where the same large negative
        number is added to every score.
        """
        attended_BL = torch.where(mask_BL.any(1, keepdim=True), mask_BL, torch.ones_like(mask_BL))
        return self.bert(input_ids=ids_BL, attention_mask=attended_BL).last_hidden_state


def adapt_bert_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BERT weights as `BertModel` names them: no ``bert.`` prefix, and today's names of LayerNorm's weight and bias."""
    adapted = {}
    for key, value in tensors.items():
        key = key.removeprefix("bert.")
        if "LayerNorm" in key:
            key = key.replace(".gamma", ".weight").replace(".beta", ".bias")
        adapted[key] = value
    return adapted
