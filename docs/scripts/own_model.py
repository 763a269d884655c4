# %% [markdown]
# # A model of your own, as a package
#
# Writes a small model and its configuration as a package outside of this repository, checks it, trains it, and
# compares it. Runs from top to bottom as a script (`python docs/scripts/own_model.py`), in about two minutes, or in
# Jupyter with jupytext. [Your own model](../own_model.md) explains each part. All files go to `out/own_model/`.

# %% [markdown]
# ## Two files
#
# The model multiplies a map of image features with the mean of the words' vectors: the least that uses both. The
# class gets `uint8` images and token ids, and returns one logit per pixel at any resolution.

# %%
import subprocess
import sys
from pathlib import Path

OUT = Path("out/own_model")
PACKAGE = OUT / "package"

MODEL = '''\
"""Words gate the maps of a small convolutional net. A tutorial; no paper."""

import torch
from torch import nn

from rrsis_bench.interfaces import Segmenter, SegmenterOutput


class GatedMaps(Segmenter):
    def __init__(self, views, max_tokens, vocab_size, width):
        super().__init__()
        self.views, self.max_tokens = dict(views), max_tokens
        self.words = nn.Embedding(vocab_size, width)
        self.pixels = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, views, text):
        image_BCSS = views["image"].to(self.head.weight.dtype) / 127.5 - 1
        mask_BL1 = text["attention_mask"][..., None]
        words_BD = (self.words(text["input_ids"]) * mask_BL1).sum(1) / mask_BL1.sum(1).clamp_min(1)
        maps_BCHW = torch.relu(self.pixels(image_BCSS)) * words_BD[..., None, None]
        return SegmenterOutput(self.head(maps_BCHW)[:, 0])
'''

CONFIGURATION = """\
name: gated_maps
card:
  title: Gated maps, a tutorial
  venue: none
  url: https://example.org
  code: null
  params_m: null
args:
  views: {image: "${size.image}"}
  max_tokens: ${size.max_tokens}
  vocab_size: ${text.vocab_size}
  width: 32
"""

# %% [markdown]
# The entry point makes the model known by its name. The configuration travels inside the package.

# %%
PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "gated-maps"
version = "0.1"

[project.entry-points."rrsis_bench.models"]
gated_maps = "gated_maps_package.gated_maps"

[tool.setuptools]
packages = ["gated_maps_package"]
package-data = { gated_maps_package = ["conf/model/*.yaml"] }
"""

files = {
    "pyproject.toml": PROJECT,
    "gated_maps_package/__init__.py": "",
    "gated_maps_package/gated_maps.py": MODEL,
    "gated_maps_package/conf/model/gated_maps.yaml": CONFIGURATION,
}
for name, text in files.items():
    (PACKAGE / name).parent.mkdir(parents=True, exist_ok=True)
    (PACKAGE / name).write_text(text)

# %% [markdown]
# ## Install
#
# Usually `pip install -e package`. Here it goes to a folder of its own, so that the environment stays as it is.

# %%
SITE = OUT / "site"
subprocess.run(
    [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    + ["--no-index", "--upgrade", "--target", str(SITE), str(PACKAGE)],
    check=True,
)
sys.path.insert(0, str(SITE))

# %% [markdown]
# ## Check
#
# Nine checks of the contract: files, shapes, gradients, independence of the batch, text, state, bf16,
# `torch.compile`. The exit code is 0 if all pass.

# %%
from rrsis_bench.cli import main

assert main(["check", "gated_maps"]) == 0

# %% [markdown]
# ## Train and compare
#
# The same command as for every other model. A few samples and one epoch show that it works; leave the
# `data.synthetic` and `train` fields out for the whole benchmark.

# %%
SHORT = [
    "data=synthetic", "data.synthetic.train=32", "data.synthetic.val=4", "data.synthetic.test=8", "train.epochs=1",
    f"runs={OUT}/runs", f"leaderboards={OUT}/leaderboards",
]  # fmt: skip
assert main(["bench", "model=gated_maps", *SHORT]) == 0
assert main(["bench", "model=rrn", *SHORT]) == 0
main(["leaderboard", "synthetic", "--leaderboards", f"{OUT}/leaderboards"])

# %% [markdown]
# The record names the package and its version as the source of the model (`model_source`), so that a reader can tell
# which code made the row.
