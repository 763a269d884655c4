"""Meta's own layout of SAM 2: names of the weights, agreement with Meta's code, and its hold on Hydra."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rrsis_bench.backbones.sam2_meta import adapt_sam2_keys
from rrsis_bench.errors import UserError
from rrsis_bench.run import __main__ as run
from tests.backbones.test_sam2 import SAM, as_list, sam2
from tests.fakes.config import compose

# Meta's files by the size's name, and the smallest trunk around Meta's decoder, whose width is fixed.
FILES = {"large": "l", "base_plus": "b+", "small": "s", "tiny": "t"}
SMALL = {**SAM, "width": 256, "mlp_dim": 2048, "decoder_heads": 8, "mask_channels": 16}
MEMORY = ("maskmem_tpos_enc", "no_obj_ptr", "memory_attention.norm.weight", "obj_ptr_tpos_proj.bias")
OVERRIDES = ["model=fianet", "data=synthetic", "--cfg", "job"]


def reference_folder() -> Path | None:
    """Where `sam2` can be imported from: on the path already, or beside the suite's environment."""
    spec = importlib.util.find_spec("sam2")
    if spec is not None and spec.origin:
        return Path(spec.origin).parents[1]
    folder = Path(sys.prefix) / "reference"
    return folder if (folder / "sam2" / "__init__.py").is_file() else None


needs_reference = pytest.mark.skipif(
    reference_folder() is None, reason="Meta's code of SAM 2 is not installed; `make reference-sam2` does it"
)


def pair(key: str) -> list[str]:
    return [f"{key}.weight", f"{key}.bias"]


def meta_keys(stages: tuple[int, ...] = (1, 1, 2, 1)) -> list[str]:
    """Every name in Meta's file of a model with these blocks per stage, but for the memory."""
    trunk, decoder = "image_encoder.trunk", "sam_mask_decoder"
    keys = [f"{trunk}.pos_embed", f"{trunk}.pos_embed_window", *pair(f"{trunk}.patch_embed.proj"), "no_mem_embed"]
    starts = {sum(stages[:stage]) for stage in (1, 2, 3)}
    for index in range(sum(stages)):
        block = f"{trunk}.blocks.{index}"
        for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.layers.0", "mlp.layers.1"):
            keys += pair(f"{block}.{part}")
        if index in starts:
            keys += pair(f"{block}.proj")
    for level in range(4):
        keys += pair(f"image_encoder.neck.convs.{level}.conv")
    keys += ["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    keys += [f"sam_prompt_encoder.point_embeddings.{index}.weight" for index in range(4)]
    keys += ["sam_prompt_encoder.not_a_point_embed.weight", "sam_prompt_encoder.no_mask_embed.weight"]
    for index in (0, 1, 3, 4, 6):
        keys += pair(f"sam_prompt_encoder.mask_downscaling.{index}")
    attentions = []
    for layer in (0, 1):
        prefix = f"{decoder}.transformer.layers.{layer}"
        attentions += [f"{prefix}.{name}" for name in ("self_attn", "cross_attn_token_to_image")]
        attentions += [f"{prefix}.cross_attn_image_to_token"]
        for part in ("norm1", "norm2", "norm3", "norm4", "mlp.layers.0", "mlp.layers.1"):
            keys += pair(f"{prefix}.{part}")
    for attention in [*attentions, f"{decoder}.transformer.final_attn_token_to_image"]:
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            keys += pair(f"{attention}.{part}")
    keys += pair(f"{decoder}.transformer.norm_final_attn")
    keys += [f"{decoder}.{token}.weight" for token in ("iou_token", "mask_tokens", "obj_score_token")]
    for part in ("output_upscaling.0", "output_upscaling.1", "output_upscaling.3", "conv_s0", "conv_s1"):
        keys += pair(f"{decoder}.{part}")
    heads = [f"output_hypernetworks_mlps.{index}" for index in range(4)]
    for head in (*heads, "iou_prediction_head", "pred_obj_score_head"):
        for layer in range(3):
            keys += pair(f"{decoder}.{head}.layers.{layer}")
    return keys


def test_every_name_is_known() -> None:
    """Meta's names, all of them and nothing else, become transformers' names, each from one."""
    tensors = {key: torch.full((1, 1), float(index)) for index, key in enumerate(meta_keys())}
    tensors |= {key: torch.zeros(1) for key in MEMORY}
    adapted = adapt_sam2_keys(tensors)
    with torch.device("meta"):
        own = sam2(SAM).sam.state_dict()
    assert adapted.keys() == own.keys()
    values = [value.flatten().tolist() for value in adapted.values()]
    points = [tensors[f"sam_prompt_encoder.point_embeddings.{index}.weight"].item() for index in range(4)]
    assert adapted["prompt_encoder.point_embed.weight"].flatten().tolist() == points
    assert sorted({number for row in values for number in row}) == list(range(len(meta_keys())))


@pytest.mark.parametrize("key", ["image_encoder.trunk.extra", "sam_mask_decoder.iou_head.bias", "memory_bank.0"])
def test_unknown_names_are_refused(tmp_path: Path, key: str) -> None:
    """A file with Meta's layout and one more tensor: the message shows its name."""
    tensors = {name: torch.zeros(1) for name in meta_keys()} | {key: torch.zeros(1)}
    torch.save({"model": tensors}, tmp_path / "sam2.1_hiera_large.pt")
    with pytest.raises(UserError, match="do not fit the model") as caught:
        sam2({**SAM, "weights": str(tmp_path / "sam2.1_hiera_large.pt")})
    assert "unexpected" in str(caught.value)
    assert "missing" not in str(caught.value)


@pytest.fixture
def meta() -> Iterator[ModuleType]:
    """Meta's package; what its import does to Hydra is undone."""
    folder, before = reference_folder(), GlobalHydra.instance().hydra
    sys.path.append(str(folder))
    try:
        yield importlib.import_module("sam2")
    finally:
        sys.path.remove(str(folder))
        GlobalHydra.instance().hydra = before


def meta_model(meta: ModuleType, letter: str, side: int, **trunk: Any) -> torch.nn.Module:
    """Meta's model, built from its own file for a size, at another side of the view and with another trunk."""
    config = OmegaConf.load(Path(str(meta.__file__)).parent / f"configs/sam2.1/sam2.1_hiera_{letter}.yaml")
    config.model.image_size = side
    config.model.image_encoder.trunk.update(trunk)
    if trunk:
        config.model.image_encoder.neck.backbone_channel_list = [trunk["embed_dim"] * times for times in (8, 4, 2, 1)]
    return instantiate(config.model, _recursive_=True)


def released(letter: str) -> dict[str, Any]:
    """The suite's node for a released size, named by Meta's letter."""
    name = letter.removesuffix("+")
    return compose(f"vision=sam2_{name}", "vision.adapt=none")["vision"]


@needs_reference
def test_names_and_shapes_of_the_released_sizes(meta: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta's model of every size holds the names above, and tensors of our shapes."""
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))  # Meta's code reads its values
    stages = {"large": (2, 6, 36, 4), "base_plus": (2, 3, 16, 3), "small": (1, 2, 11, 2), "tiny": (1, 2, 7, 2)}
    for size, letter in FILES.items():
        with torch.device("meta"):
            tensors = meta_model(meta, letter, 1024).state_dict()
            own = sam2({**released(letter), "weights": "random"}).sam.state_dict()
        memory = ("memory_", "maskmem_", "mask_downsample.", "obj_ptr_", "no_mem_pos_enc", "no_obj_")
        assert {key for key in tensors if not key.startswith(memory)} == set(meta_keys(stages[size]))
        adapted = adapt_sam2_keys(tensors)
        assert {key: value.shape for key, value in adapted.items()} == {key: own[key].shape for key in own}


@needs_reference
@pytest.mark.parametrize(
    ("size", "side", "training"),
    [("", 64, True), ("", 96, False), pytest.param("tiny", 256, False, marks=pytest.mark.slow)],
    ids=["small-train", "small-eval", "hiera-tiny"],
)
def test_agrees_with_metas_code(meta: ModuleType, tmp_path: Path, size: str, side: int, training: bool) -> None:
    """Meta's file in, then features, mask prompts and masks as Meta's code computes them, in float64."""
    torch.manual_seed(5)
    if size:
        theirs = meta_model(meta, FILES[size], side)
        config = {**released(FILES[size]), "image": side}
    else:
        trunk = {
            "embed_dim": 16, "num_heads": 1, "stages": [1, 1, 2, 1], "window_spec": [4, 2, 4, 2],
            "global_att_blocks": [3], "window_pos_embed_bkg_spatial_size": [3, 3],
        }  # fmt: skip
        theirs = meta_model(meta, "t", side, **trunk)
        config = {**SMALL, "image": side}
    with torch.no_grad():
        for parameter in theirs.parameters():  # the embeddings start from 0
            parameter += 0.05 * torch.randn_like(parameter)
    path = tmp_path / "sam2.1_hiera.pt"
    torch.save({"model": theirs.state_dict()}, path)
    ours = sam2({**config, "weights": str(path)}).double().train(training)
    theirs = theirs.double().train(training)

    view = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    map_B1hw = torch.randn(2, 1, side // 4, side // 4, dtype=torch.float64)
    sparse = torch.randn(2, 3, 256, dtype=torch.float64)
    with torch.no_grad():
        maps = theirs.forward_image((view - ours.mean_C11) / ours.std_C11)["backbone_fpn"]
        maps[-1] = maps[-1] + theirs.no_mem_embed.view(1, -1, 1, 1)
        _, dense = theirs.sam_prompt_encoder(None, None, map_B1hw)
        # `get_dense_pe` computes in float32; the same encoding of the same grid, in float64.
        centres = (torch.arange(side // 16, dtype=torch.float64) + 0.5) / (side // 16)
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
        positions = theirs.sam_prompt_encoder.pe_layer._pe_encoding(grid).permute(2, 0, 1)[None]
        masks, *_ = theirs.sam_mask_decoder(
            maps[-1], positions, sparse, dense, multimask_output=False, repeat_image=False, high_res_features=maps[:-1]
        )
        features = ours.encode_image(view)
        prompt = ours.encode_mask(map_B1hw)
        found = [*as_list(features), prompt, ours._positions_1CHW(), ours.decode(features, sparse, prompt)]
    for value, expected in zip(found, [*maps, dense, positions, masks[:, 0]], strict=True):
        assert value.shape == expected.shape
        assert expected.std() > 1e-3
        worst = (value - expected).abs().max() / expected.abs().max()
        assert worst <= 1e-5


LOUD = """
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

if not GlobalHydra.instance().is_initialized():
    initialize_config_module("loud", version_base="1.2")
"""


@pytest.mark.parametrize("first", ["package", "entry"])
def test_a_package_that_initialises_hydra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], first: str
) -> None:
    """What `sam2` does at import: our entry runs before and after it, and leaves it what it set."""
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "__init__.py").write_text(LOUD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "loud", raising=False)
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(GlobalHydra.instance(), "hydra", None)
    if first == "entry":
        assert run.main(OVERRIDES) == 0
    importlib.import_module("loud")
    own = GlobalHydra.instance().hydra
    assert own is not None
    assert run.main(OVERRIDES) == 0
    assert "name: fianet" in capsys.readouterr().out
    assert GlobalHydra.instance().hydra is own


IMPORT = "import sam2; from hydra import compose; compose('configs/sam2.1/sam2.1_hiera_t.yaml')"
ENTRY = f"from rrsis_bench import run; assert run.main({OVERRIDES!r}) == 0"


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize("order", [(IMPORT, ENTRY), (ENTRY, IMPORT)], ids=["sam2-first", "entry-first"])
def test_both_orders_of_import(order: tuple[str, str]) -> None:
    """A fresh interpreter: Meta's package and our entry, either first, then both once more."""
    script = "; ".join([f"import sys; sys.path.append({str(reference_folder())!r})", *order, *order])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("name: fianet") == 2
