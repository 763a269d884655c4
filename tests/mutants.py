"""Wrong wirings of the models, each of which a test must notice: `make mutants`.

Every mutation is applied to a temporary copy of the working tree, in which the named tests then run. A mutation that
leaves them green survives. Run `python -m tests.mutants NAME ...` for some of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIRING = "tests/models/test_wiring.py"


@dataclass(frozen=True)
class Mutant:
    """A source text that occurs once in `file`, and what replaces it; `tests` are pytest's arguments."""

    name: str
    file: str
    old: str
    new: str
    tests: str


SGSRF, CSINET = "models/sgsrf/network.py", "models/csinet/network.py"
LSCM = "models/lscm.py"
MUTANTS = (
    Mutant(
        "GPG reads raw words",
        SGSRF,
        "self.generator(refined.patches_BNC, refined.words_BLC, mask_BL)",
        "self.generator(refined.patches_BNC, words_BLC, mask_BL)",
        f"{WIRING}::test_sgsrf",
    ),
    Mutant(
        "dense map from raw patches",
        SGSRF,
        "self.dense_map(refined.patches_BNC, token_BC, self.clip.grid)",
        'self.dense_map(encoded["patches"], token_BC, self.clip.grid)',
        f"{WIRING}::test_sgsrf",
    ),
    Mutant(
        "text_pool from raw words",
        SGSRF,
        "mean_word(refined.words_BLC, mask_BL) if token_BC",
        "mean_word(words_BLC, mask_BL) if token_BC",
        f"{WIRING}::test_sgsrf",
    ),
    Mutant(
        "refinement's identity start left out",
        SGSRF,
        "self.refinement.start_as_identity()",
        "pass",
        f"{WIRING}::test_sgsrf_starts_as_said",
    ),
    Mutant(
        "prompts' identity start left out",
        SGSRF,
        "self.generator.start_from_words()",
        "pass",
        f"{WIRING}::test_sgsrf_starts_as_said",
    ),
    Mutant(
        "gmfe_alpha ignored",
        SGSRF,
        "FeatureEnhancement(self.sam2.widths, dim, gmfe_alpha)",
        "FeatureEnhancement(self.sam2.widths, dim, 0.1)",
        f"{WIRING}::test_sgsrf_starts_as_said",
    ),
    Mutant(
        "consistency in bf16: relations",
        "models/sgsrf/consistency.py",
        "torch.autocast(columns_BNL.device.type, enabled=False)",
        "torch.autocast(columns_BNL.device.type, dtype=torch.bfloat16)",
        f"{WIRING}::test_the_consistency_loss_is_computed_in_float32_under_autocast",
    ),
    Mutant(
        "consistency in bf16: attention weights",
        "models/blocks/multihead.py",
        "scores = scores if scores.dtype == torch.float64 else scores.float()",
        "scores = scores.to(query.dtype)",
        f"{WIRING}::test_the_consistency_loss_is_computed_in_float32_under_autocast",
    ),
    Mutant(
        "CSINet's window halved",
        CSINET,
        "CrossViewWindows(width, self.backbone.window, n_view",
        "CrossViewWindows(width, self.backbone.window // 2, n_view",
        f"{WIRING}::test_csinet",
    ),
    Mutant(
        "decoder=arc without rotation",
        CSINET,
        "TopDownDecoder(widths, hidden, rotated=True)",
        "TopDownDecoder(widths, hidden, rotated=False)",
        f"{WIRING}::test_csinet",
    ),
    Mutant(
        "pwam and iim exchanged",
        CSINET,
        'if fusion == "pwam":\n                return',
        'if fusion == "iim":\n                return',
        f"{WIRING}::test_csinet",
    ),
    Mutant(
        "two decoder stages for one",
        CSINET,
        "skip=skip, stages=decoder_stages)",
        "skip=skip, stages=max(2, decoder_stages))",
        f"{WIRING}::test_csinet",
    ),
    Mutant(
        "slice_size ignored with one view",
        CSINET,
        "slice_size=slice_size, mask_padding=mask_padding, **has",
        "slice_size=slice_size if all(has.values()) else SLICE_SIZE, mask_padding=mask_padding, **has",
        f"{WIRING}::test_csinet",
    ),
    Mutant(
        "no_cda_no_skip without its second switch",
        "conf/experiment/csinet_table5/no_cda_no_skip.yaml",
        "{cda: false, skip: false}",
        "{cda: false}",
        f"{WIRING}::test_csinet",
    ),
    Mutant(
        "views share no word projection",
        "models/csinet/fusion.py",
        'self._keys(both, share != "none")',
        "self._keys(both, False)",
        "tests/models/test_csinet_blocks.py::test_what_the_views_share_of_the_language_fusion",
    ),
    Mutant(
        "integration starts random",
        CSINET,
        'keep_own = integration_start == "identity"',
        "keep_own = False",
        "tests/models/test_csinet_model.py::test_the_integration_starts_as_asked",
    ),
    Mutant(
        "consistency as a mean of the batch",
        "models/sgsrf/ccr.py",
        "reduction=self.reduction)",
        'reduction="mean")',
        "tests/models/test_sgsrf_model.py::test_the_reduction_of_the_loss_is_the_sum_over_a_samples_rows_or_their_mean",
    ),
    Mutant(
        "MRSNet's decoder fed past HFIM",
        "models/mrsnet/network.py",
        "self.decoder(self.hfim(outputs))",
        "self.decoder(outputs)",
        f"{WIRING}::test_mrsnet",
    ),
    Mutant(
        "FIANet's LGCE neck reads the padding",
        "models/fianet/network.py",
        "self.guided(outputs, context.words_BLD, context.mask_BL)",
        "self.guided(outputs, context.words_BLD, torch.ones_like(context.mask_BL))",
        f"{WIRING}::test_fianet",
    ),
    Mutant(
        "FIANet's stage_output=fused wrong",
        "models/fianet/network.py",
        'r_BHWC if self.stage_output == "pwam" else x_BHWC',
        "r_BHWC",
        f"{WIRING}::test_fianet",
    ),
    Mutant(
        "FIANet's num_tmem 3 read as 1",
        "models/fianet/network.py",
        "TMEM(widths, text_dim, num_tmem)",
        "TMEM(widths, text_dim, 1)",
        f"{WIRING}::test_fianet",
    ),
    Mutant(
        "LSCM's context left out of the join",
        LSCM,
        "torch.cat([fused, context, spread",
        "torch.cat([fused, fused, spread",
        "tests/models/test_classic_parity.py -k lscm_small",
    ),
    Mutant(
        "LSCM's tree left out",
        LSCM,
        "weights_BLL = weights_BLL * ties_BLL",
        "pass",
        "tests/models/test_lscm.py",
    ),
    Mutant(
        "LSCM's heads stay where the words were",
        LSCM,
        "words.moved(text[HEAD_KEY])",
        "text[HEAD_KEY]",
        "tests/models/test_lscm.py",
    ),
    Mutant(
        "the sentence vector is not scaled",
        "models/blocks/classic.py",
        'l2(self.words.read(text["input_ids"], text["word_mask"]).last_BD)',
        'self.words.read(text["input_ids"], text["word_mask"]).last_BD',
        "tests/models/test_lstm_cnn.py",
    ),
    Mutant(
        "LSTM-CNN's visual map is not scaled",
        "models/lstm_cnn.py",
        'l2(self.visual(maps["c5"]))',
        'self.visual(maps["c5"])',
        "tests/models/test_lstm_cnn.py",
    ),
    Mutant(
        "LSTM-CNN without ReLU",
        "models/lstm_cnn.py",
        "torch.relu(self.fusion(joined))",
        "self.fusion(joined)",
        "tests/models/test_lstm_cnn.py",
    ),
)


def copy_tree(target: Path) -> None:
    """Copy what git tracks, and what it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith("leaderboards/records/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def run_tests(tree: Path, tests: str) -> tuple[int, str]:
    """Run tests in a tree; return pytest's exit status and its last line but for warnings."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    failed = re.findall(r"^(?:FAILED|ERROR) \S*::(\S+)", done.stdout, re.MULTILINE)
    return done.returncode, failed[0] if failed else (done.stdout.strip() or done.stderr.strip())[-200:]


def main(names: list[str]) -> int:
    """Print one line per mutation; return 1 if one survives or does not fit the source."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        status, last = run_tests(tree, " ".join(sorted({mutant.tests for mutant in chosen})))
        if status:
            print(f"The tests fail without any mutation: {last}")
            return 1
        for mutant in chosen:
            path = tree / mutant.file
            source = path.read_text(encoding="utf-8")
            if source.count(mutant.old) != 1:
                print(f"{mutant.name:45} DOES NOT FIT  {mutant.file} has {source.count(mutant.old)} x {mutant.old!r}")
                survivors.append(mutant.name)
                continue
            path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
            status, last = run_tests(tree, mutant.tests)
            path.write_text(source, encoding="utf-8")
            if status != 1:  # 1: tests ran and failed
                survivors.append(mutant.name)
            print(f"{mutant.name:45} {'killed by ' + last if status == 1 else 'SURVIVES'}", flush=True)
    print(f"{len(chosen)} mutations, {len(survivors)} survivors")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
