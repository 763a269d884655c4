"""Inputs and noise weights of the golden files of the CNN and LSTM systems, and their variables under our names.

The golden files hold what the authors' TensorFlow graphs computed from these inputs. A variable keeps TensorFlow's name
and shape there; `torch_weights` changes its layout.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.interfaces import ImageFirstSegmenter
from tests.fakes.config import model_args

GOLDEN = Path(__file__).parents[1] / "golden" / "classic"
STRIDE, WORD_SLOTS, VOCABULARY = 8, 20, 60
CHANNELS = {"c2": 256, "c3": 512, "c4": 1024, "c5": 2048}


def stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """The generator of a named array."""
    return np.random.default_rng([seed, index, zlib.crc32(name.encode())])


def noise_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The value of a variable, in TensorFlow's layout."""
    noise, last = stream(seed, name).standard_normal(shape), name.split("/")[-1]
    if last in ("biases", "bias", "beta"):
        return 0.1 * noise
    if last == "gamma":
        return 1.0 + 0.1 * noise
    if not shape:
        return 0.5 + 0.1 * noise
    if last in ("W_ci", "W_cf", "W_co"):
        return 0.5 * noise
    if last == "embedding" or name == "text_objseg/Variable":
        return noise
    return 2.0 * noise / np.sqrt(shape[1] if last == "W_a" else np.prod(shape[:-1]))


def target(index: int, side: int, seed: int) -> Tensor:
    """The 0/1 mask (1, S, S) of a sentence: a rectangle."""
    draw = stream(seed, "target", index)
    top, left = draw.integers(0, side // 2), draw.integers(0, side // 2)
    mask = torch.zeros(1, side, side, dtype=torch.float64)
    mask[:, top : top + side // 2, left : left + side // 3] = 1
    return mask


def old_resize(map_BHW: Tensor) -> Tensor:
    """TensorFlow 1's bilinear resize by the stride: without half-pixel shift, the last cell repeated."""
    side = map_BHW.shape[-1]
    padded = F.pad(map_BHW[:, None], (0, 1, 0, 1), mode="replicate")
    return F.interpolate(padded, size=STRIDE * side + 1, mode="bilinear", align_corners=True)[:, 0, :-1, :-1]


def torch_layout(name: str, value: np.ndarray) -> Tensor:
    """Change a variable from TensorFlow's layout to torch's; the blocks of an LSTM keep their order."""
    tensor, last = torch.from_numpy(np.asarray(value)), name.split("/")[-1]
    if last == "DW" or (last == "kernel" and tensor.ndim == 4):
        return tensor.permute(3, 2, 0, 1)
    if last in ("W_ci", "W_cf", "W_co"):
        return tensor.permute(2, 0, 1)
    if last in ("W_q", "W_v"):
        return tensor.T
    if last == "kernel":
        return tensor.reshape(tensor.shape[-2:]).T
    return tensor


@dataclass(frozen=True)
class Case:
    """One golden file.

    Attributes:
        expected: what the authors' graph computed.
        sizes: the arguments of that graph.
        counts: words per sentence.
        variables: name -> shape of every trained variable.
        without_table: number of parameters without the word table, as the graph counts them.
    """

    expected: dict[str, np.ndarray]
    sizes: dict[str, Any]
    counts: list[int]
    variables: dict[str, tuple[int, ...]]
    without_table: int

    @classmethod
    def read(cls, name: str, folder: Path = GOLDEN) -> Case:
        """Read ``expected_<name>.npz`` and ``<name>_variables.json``."""
        about = json.loads((folder / f"{name}_variables.json").read_text())
        shapes = {key: tuple(shape) for key, shape in about["variables"].items()}
        with np.load(folder / f"expected_{name}.npz") as file:
            expected = dict(file)
        return cls(expected, about["arguments"], about["counts"], shapes, about["parameters_without_word_table"])

    @property
    def seeds(self) -> tuple[int, int]:
        """Seeds of the weights and of the inputs."""
        weights, inputs = (int(seed) for seed in self.expected["seeds_weight_input"])
        return weights, inputs

    def build(self, name: str, **args: Any) -> ImageFirstSegmenter:
        """Build the model at the graph's sizes, in evaluation mode and float64, without the backbone's stages."""
        sizes = self.sizes
        args = model_args(name, "size=paper", "vision.layers=[1,1,1,1]", "vision.weights=random", **args)
        words = {"vocab_size": sizes["vocab_size"]}
        if "w_emb_dim" in sizes:  # the files at paper size name no width: they have the authors'
            words["width"] = sizes["w_emb_dim"]
        if args["text"]["hidden"] and "rnn_size" in sizes:
            words["hidden"] = sizes["rnn_size"]
        args |= {"views": {"image": sizes["H"]}, "text": args["text"] | words}
        model = registry.load_class(name)(**args)
        assert isinstance(model, ImageFirstSegmenter)
        return model.double().eval()

    def load(self, model: ImageFirstSegmenter, names: list[tuple[str, str]]) -> dict[str, str]:
        """Give the model the noise weights; `names` are (pattern of a TensorFlow name, our name) pairs.

        Returns:
            TensorFlow's name -> ours. Every parameter beside the backbone is set once.
        """
        found: dict[str, str] = {}
        state = {key: value for key, value in model.state_dict().items() if not key.startswith("backbone.")}
        given: dict[str, Tensor] = {}
        for name, shape in self.variables.items():
            ours = [re.sub(pattern, replacement, name) for pattern, replacement in names if re.fullmatch(pattern, name)]
            assert len(ours) == 1, (name, ours)
            found[name] = ours[0]
            value = torch_layout(name, noise_weight(name, shape, self.seeds[0]))
            given[ours[0]] = value.reshape(state[ours[0]].shape)
        assert given.keys() == state.keys(), given.keys() ^ state.keys()
        model.load_state_dict({**model.state_dict(), **given})
        return found

    def maps(self, index: int, taps: tuple[str, ...]) -> dict[str, Tensor]:
        """The backbone's maps (1, C, G, G) of sentence `index`."""
        side = self.sizes["vf_h"]
        found = {}
        for tap in taps:
            cells = 2 * side if tap == "c2" else side
            noise = stream(self.seeds[1], tap, index).standard_normal((1, cells, cells, CHANNELS[tap]))
            found[tap] = torch.from_numpy(np.maximum(noise, 0)).permute(0, 3, 1, 2)
        return found

    def text(self, index: int) -> dict[str, Tensor]:
        """Ids, word mask and heads (1, L) of sentence `index`; padded on the left, as in the authors' graphs."""
        ids = torch.from_numpy(self.expected["word_ids"][[index]])
        text = {"input_ids": ids, "word_mask": (ids != 0).long(), "attention_mask": (ids != 0).long()}
        if "head_of_word" in self.expected:  # counted from the first word, at the front
            heads, pads = torch.from_numpy(self.expected["head_of_word"][[index]]), int((ids == 0).sum())
            text["head_ids"] = (heads.roll(pads, dims=1) + pads).where(ids != 0, torch.arange(ids.shape[1]))
        return text

    def inputs(self, *indices: int, taps: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Maps and text of several sentences as one batch."""
        parts = [(self.maps(index, taps), self.text(index)) for index in indices]
        maps, text = zip(*parts, strict=True)
        return tuple({key: torch.cat([part[key] for part in group]) for key in group[0]} for group in (maps, text))


def relative_error(got: Tensor, wanted: np.ndarray) -> float:
    """norm(a - b) / norm(b - mean(b)), the largest over the maps of a batch; `wanted` is (B, H, W, 1)."""
    truth = torch.from_numpy(wanted)[..., 0]
    errors = [(a - b).norm() / (b - b.mean()).norm() for a, b in zip(got.double(), truth, strict=True)]
    return float(torch.stack(errors).max())


CONV = r"/(?:DW|kernel)"
LSTM = [
    (r"text_objseg/RNN/(?:WLSTM/)?multi_rnn_cell/cell_0/basic_lstm_cell/kernel", "words.lstm.gates.weight"),
    (r"text_objseg/RNN/(?:WLSTM/)?multi_rnn_cell/cell_0/basic_lstm_cell/bias", "words.lstm.gates.bias"),
]
TABLE = [(r"text_objseg/(?:embedding|Variable)", "words.embedding.weight")]
_CELL = r"text_objseg/rnn/conv_lstm_cell"
CONV_LSTM = [
    (rf"{_CELL}/kernel", "refinement.kernel.weight"),
    (rf"{_CELL}/W_c([ifo])", r"refinement.peepholes.\1"),
    *(
        (rf"{_CELL}/LayerNorm{suffix}/{theirs}", f"refinement.norms.{part}.{ours}")
        for part, suffix in zip("jifoc", ("", "_1", "_2", "_3", "_4"), strict=True)
        for theirs, ours in (("gamma", "weight"), ("beta", "bias"))
    ),
]


def layer(theirs: str, ours: str) -> list[tuple[str, str]]:
    """The names of a convolution's weight and bias; `theirs` is a pattern below ``text_objseg``."""
    return [(rf"text_objseg/{theirs}/DW", f"{ours}.weight"), (rf"text_objseg/{theirs}/biases", f"{ours}.bias")]


def unnamed(theirs: str, ours: str) -> list[tuple[str, str]]:
    """The names of a weight and a bias of a layer of TensorFlow's own, such as conv3d_1."""
    return [(rf"text_objseg/{theirs}/kernel", f"{ours}.weight"), (rf"text_objseg/{theirs}/bias", f"{ours}.bias")]


def norm(theirs: str, ours: str) -> list[tuple[str, str]]:
    """The names of a norm's scale and shift."""
    return [(rf"text_objseg/{theirs}/gamma", f"{ours}.weight"), (rf"text_objseg/{theirs}/beta", f"{ours}.bias")]


_CMPC = [
    *TABLE,
    *LSTM,
    *CONV_LSTM,
    *layer(r"(c[345])_lateral", r"laterals.\1"),
    *layer("words_parse_1", "parser.0"),
    *layer("words_parse_2", "parser.2"),
    *(
        pair
        for head in range(5)
        for pair in (
            *layer(rf"vis_trans_(c[345])_head{head + 1}", rf"perceptions.\1.visual.{head}"),
            *layer(rf"lang_trans_(c[345])_head{head + 1}", rf"perceptions.\1.language.{head}"),
        )
    ),
    *layer(r"words_trans_(c[345])", r"relations.\1.key"),
    *layer(r"spa_graph_trans2_(c[345])", r"relations.\1.query"),
    *layer(r"gconv_update_spa_graph_(c[345])", r"relations.\1.update"),
    *norm(r"gconv_feat_ln_spa_graph_(c[345])", r"relations.\1.gathered_norm"),
    *norm(r"gconv_update_ln_spa_graph_(c[345])", r"relations.\1.update_norm"),
    *layer(r"fusion_(c[345])", r"joins.\1"),
    *layer(r"score_(c[345])", r"scores.\1"),
    *layer("score", "score"),
    *(
        pair
        for exchange, suffix in enumerate(("", "_2"))
        for pair in (
            *layer(rf"spa_graph_key_(c[345]){suffix}gv_f1", rf"exchanges.{exchange}.\1.key"),
            *layer(rf"lang_query_(c[345]){suffix}gv_f1", rf"exchanges.{exchange}.\1.query"),
            *layer(rf"gv_lang_(c[345]){suffix}gv_f1", rf"exchanges.{exchange}.\1.context"),
            *(
                inner
                for partner in range(2)
                for inner in (
                    *layer(rf"lang_feat_(c[345]){suffix}_f{partner + 1}", rf"exchanges.{exchange}.\1.gates.{partner}"),
                    *layer(
                        rf"trans_feat_(c[345]){suffix}_f{partner + 1}", rf"exchanges.{exchange}.\1.features.{partner}"
                    ),
                )
            ),
        )
    ),
]
_LSCM = [
    *TABLE,
    *LSTM,
    *CONV_LSTM,
    *layer(r"(c[2345])_lateral", r"laterals.\1"),
    *(
        pair
        for head in range(5)
        for pair in (
            *layer(rf"vis_trans_(c[2345])_head{head + 1}", rf"fusions.\1.visual.{head}"),
            *layer(rf"lang_trans_(c[2345])_head{head + 1}", rf"fusions.\1.language.{head}"),
        )
    ),
    *layer(r"vis_key_(c[2345])", r"trees.\1.key"),
    *layer(r"words_query_(c[2345])", r"trees.\1.query"),
    *layer(r"vagr_query_(c[2345])", r"trees.\1.asking"),
    *layer(r"vagr_key_(c[2345])", r"trees.\1.answering"),
    *layer(r"gconv_update_g1_(c[2345])", r"trees.\1.update"),
    *norm(r"gconv_feat_ln_g1_(c[2345])", r"trees.\1.gathered_norm"),
    *norm(r"gconv_update_ln_g1_(c[2345])", r"trees.\1.update_norm"),
    *layer(r"fusion_(c[2345])", r"joins.\1"),
    *layer(r"score_(c[2345])", r"scores.\1"),
    *layer("score", "score"),
]
NAMES: Mapping[str, list[tuple[str, str]]] = {
    "rrn": [
        *TABLE,
        *LSTM,
        *CONV_LSTM,
        *layer("mlp0", "visual"),
        *layer("fusion", "fusion"),
        *layer(r"(c[345])_lateral", r"laterals.\1"),
        *layer("score", "score"),
    ],
    "brinet": [
        *TABLE,
        *LSTM,
        *layer(r"conv_([345])", r"laterals.c\1"),
        *layer(r"x([345])/conv_v1", r"attentions.c\1.asking"),
        *layer(r"x([345])/conv_v2", r"attentions.c\1.relating"),
        *layer(r"x([345])/conv_v3", r"attentions.c\1.spreading"),
        *layer(r"x([345])/conv_v4", r"attentions.c\1.kept"),
        *layer(r"x([345])/conv_C1", r"attentions.c\1.merged"),
        *layer(r"x([345])/conv_final_out", r"attentions.c\1.out"),
        *(
            pair
            for place, dilation in enumerate((1, 3, 5, 7))
            for pair in layer(rf"x([345])/atrous_C_{dilation}", rf"attentions.c\1.dilated.{place}")
        ),
        (r"text_objseg/x([345])/W_q", r"attentions.c\1.from_words.weight"),
        (r"text_objseg/x([345])/W_v", r"attentions.c\1.from_vision.weight"),
        (r"text_objseg/x([345])/W_a", r"attentions.c\1.positions_NC"),
        *layer(r"conv_sum([345])", r"scores.c\1"),
        *layer(r"(l_34|l_45|left|r_34|r_45|right)/(feature|gate)", r"gates.\1.\2"),
        *layer("out_feature", "out"),
        *layer("conv2_g", "score"),
    ],
    "cmsa": [
        *TABLE,
        *layer("mlp_c5", "visual"),
        *(
            pair
            for level, scope in (("c5", "CMSA"), ("c4", "CMSA_C4"), ("c3", "CMSA_C3"))
            for place, part in enumerate(("query", "key", "value", "back"))
            for pair in unnamed(f"{scope}/conv3d" + (f"_{place}" if place else ""), f"attentions.{level}.{part}")
        ),
        *unnamed("conv3d", "volumes.c4"),
        *unnamed("conv3d_1", "volumes.c3"),
        *unnamed("conv2d", "outs.c5"),
        *unnamed("conv2d_1", "outs.c4"),
        *unnamed("conv2d_2", "outs.c3"),
        *(
            pair
            for place, level in (("x1", "c5"), ("x2", "c4"), ("x3", "c3"))
            for pair in (
                *unnamed(f"mgate/{place}/conv2d", f"gates.{level}.gates"),
                (rf"text_objseg/mgate/{place}/Variable", f"gates.{level}.balance"),
            )
        ),
        *layer("score", "score"),
    ],
    "cmpc": _CMPC,
    "cmpc_plus": _CMPC,
    "lscm": _LSCM,
}
"""Model -> (pattern of a TensorFlow name, our name)."""

ARGS: Mapping[str, dict[str, str]] = {
    "rrn": {"visual_width": "v_emb_dim", "width": "mlp_dim"},
    "brinet": {"slots": "num_steps", "visual_width": "v_emb_dim", "dilated_width": "atrous_dim"},
    "cmsa": {"visual_width": "v_emb_dim", "width": "mlp_dim"},
    "cmpc": {"width": "mlp_dim"},
    "cmpc_plus": {"width": "mlp_dim"},
    "lscm": {"width": "mlp_dim"},
}
"""Model -> its argument -> the graph's argument."""
