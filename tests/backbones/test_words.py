"""The word embedding with its LSTM: order and padding, the plain recurrence, weights."""

from __future__ import annotations

import pytest
import torch

from rrsis_bench.backbones import build_text
from rrsis_bench.backbones.words import LSTM, WordEncoder
from rrsis_bench.errors import UserError
from tests.fakes.backbones import node


def build(**options) -> WordEncoder:
    torch.manual_seed(0)
    return build_text(node("text/words_tiny", width=5, hidden=4, vocab_size=20, **options), WordEncoder).double()


def test_the_lstm_is_the_plain_recurrence_of_torchs_with_one_added_to_the_forget_gate() -> None:
    torch.manual_seed(0)
    ours, x = LSTM(5, 4).double(), torch.randn(2, 6, 5, dtype=torch.float64)
    torch.nn.init.normal_(ours.gates.bias)
    theirs = torch.nn.LSTM(5, 4, batch_first=True).double()
    order = [0, 2, 1, 3]  # torch: input, forget, candidate, output
    with torch.no_grad():
        weight, bias = (part.chunk(4) for part in (ours.gates.weight, ours.gates.bias))
        weight = torch.cat([weight[part] for part in order])
        theirs.weight_ih_l0.copy_(weight[:, :5])
        theirs.weight_hh_l0.copy_(weight[:, 5:])
        theirs.bias_ih_l0.copy_(torch.cat([bias[part] for part in order]))
        theirs.bias_hh_l0.zero_()
        theirs.bias_hh_l0[4:8] = 1
        got = ours(x, torch.ones(2, 6, dtype=torch.bool))
        assert torch.allclose(got, theirs(x)[0], rtol=0, atol=1e-12)


def test_padding_on_either_side_and_special_tokens_do_not_matter() -> None:
    encoder = build()
    rows = torch.tensor([[3, 4, 5, 0, 0, 0], [0, 0, 0, 3, 4, 5], [1, 3, 4, 5, 2, 0]])
    masks = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0]])
    words = encoder.read(rows, masks)
    for part in (words.embedded_BLD, words.hidden_BLD, words.last_BD):
        assert part[0].equal(part[1])
        assert part[0].equal(part[2])
    assert words.mask_BL.tolist() == [[True] * 3 + [False] * 3] * 3
    assert words.hidden_BLD[:, 3:].abs().max() == 0
    assert words.last_BD.equal(words.hidden_BLD[:, 2])
    assert encoder(rows, masks).equal(words.hidden_BLD)


def test_a_row_without_words_is_zero() -> None:
    words = build().read(torch.tensor([[3, 4], [3, 4]]), torch.tensor([[0, 0], [1, 0]]))
    assert words.last_BD[0].abs().max() == 0
    assert words.last_BD[1].abs().max() > 0


def test_without_an_lstm_the_words_are_the_embedding() -> None:
    torch.manual_seed(0)
    encoder = build_text(node("text/words_tiny", width=5, hidden=0, vocab_size=20), WordEncoder)
    assert encoder.width == 5
    ids = torch.tensor([[3, 4]])
    assert encoder(ids, torch.ones_like(ids)).equal(encoder.embedding(ids))


def test_both_random_starts_have_their_scale() -> None:
    assert 0.07 < build(start="uniform").embedding.weight.abs().max() <= 0.08
    assert float(build(start="normal").embedding.weight.detach().std()) == pytest.approx(0.6, rel=0.2)


def test_vectors_are_read_from_a_file_and_must_fit(tmp_path) -> None:
    vectors = torch.randn(20, 5)
    torch.save({"weight": vectors}, tmp_path / "vectors.pth")
    assert build(weights=str(tmp_path / "vectors.pth")).embedding.weight.equal(vectors.double())
    torch.save({"weight": vectors[:4]}, tmp_path / "few.pth")
    with pytest.raises(UserError, match=r"weight has shape"):
        build(weights=str(tmp_path / "few.pth"))


def test_sizes_below_one_are_an_error() -> None:
    with pytest.raises(UserError, match=r"text\.width"):
        build_text(node("text/words_tiny", width=0), WordEncoder)
