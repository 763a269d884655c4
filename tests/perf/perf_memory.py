"""Memory per device of a training step at paper size, computed without a GPU: python -m tests.perf.perf_memory.

Weights, gradients and optimiser states follow from the parameter counts. Activations are the tensors that autograd
keeps for the backward pass of one sample, counted once per storage in a forward pass with torch's fake tensors.
"""

from __future__ import annotations

import sys

import torch
import transformers.masking_utils
from torch._subclasses.fake_tensor import FakeTensorMode

from rrsis_bench.config.compose import compose_config
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.run.model import build_model

MODELS = ("fianet", "csinet", "mrsnet", "sgsrf")
DEVICES = (1, 2, 4, 8)
GB = 1e9

# It reads the mask's values, which a fake tensor does not have; the answer changes a mask of L x L booleans.
transformers.masking_utils._ignore_bidirectional_mask_sdpa = lambda *_, **__: False


def activations(model: Segmenter, batch: int = 1) -> int:
    """Bytes that autograd keeps, parameters and buffers left out."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    views = {name: torch.zeros(batch, 3, side, side, dtype=torch.uint8) for name, side in model.views.items()}
    names = ("input_ids", "attention_mask", *model.phrase_masks)
    text = {name: torch.ones(batch, model.max_tokens, dtype=torch.int64) for name in names}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(views, text)
    return sum(storage.nbytes() for storage in kept.values())


def rows(name: str) -> list[str]:
    """One line per number of devices."""
    config = compose_config(
        [f"model={name}", "data=rrsisd", "size=paper", "vision.weights=random", "text.weights=random"]
    )
    with torch.device("meta"):
        model = build_model(config.model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        one, two = activations(model, 1), activations(model, 2)
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    per_sample = two - one
    batch = config.train.batch_size
    out = [
        f"{name}: {total / 1e6:.1f} M parameters, {trained / 1e6:.1f} M trained, {per_sample / GB:.2f} GB per sample, "
        f"train.batch_size={batch}"
    ]
    for devices in DEVICES:
        samples = -(-batch // devices)
        buckets = 4 * trained if devices > 1 else 0
        ddp = 4 * total + 12 * trained + buckets
        fsdp = (4 * total + 12 * trained) / devices
        out.append(
            f"  {devices}: {samples} samples, activations {samples * per_sample / GB:.1f}, states ddp {ddp / GB:.2f} "
            f"fsdp {fsdp / GB:.2f}, sum ddp {(ddp + samples * per_sample) / GB:.1f} "
            f"fsdp {(fsdp + samples * per_sample) / GB:.1f} GB"
        )
    return out


if __name__ == "__main__":
    for chosen in sys.argv[1:] or MODELS:
        print("\n".join(rows(chosen)), flush=True)
