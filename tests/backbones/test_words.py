"""The word embedding with its LSTM: order and padding, the plain recurrence, weights."""

from __future__ import annotations

import re

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
        for other in (part[1], part[2]):  # other rows of one product, which a kernel may sum in another order
            torch.testing.assert_close(part[0], other, rtol=0, atol=1e-6)
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


GLOVE_LINES = """\
, 0.1 0.2 0.3 0.4 -0.5
the 1 2 3 4 5
. . . 9 9 9 9 9
at name@domain.com 8 8 8 8 8
ship -1.5 2e-1 3 4 0.25
Ship 7 7 7 7 7
ship 6 6 6 6 6
ångström\u0085 5 5 5 5 5
"""
"""In the layout of glove.840B.300d.txt: blanks between word and numbers, words with blanks, capitals, odd line ends."""


def vectors_file(tmp_path, text=GLOVE_LINES):
    path = tmp_path / "glove.840B.5d.txt"
    path.write_bytes(text.encode())
    return path


def test_glove_gives_words_their_vectors_by_name(tmp_path) -> None:
    encoder = build(weights=f"glove:{vectors_file(tmp_path)}")
    random = build().embedding.weight
    ids = {"[PAD]": 0, "[UNK]": 1, "ship": 2, "lake": 3, "the": 4, ". . .": 5, "at name@domain.com": 6}
    assert encoder.embedding.weight.equal(random)  # until the vocabulary is known
    assert encoder.start_from_vectors(ids) == 4
    table = encoder.embedding.weight.detach()
    for row, wanted in {2: [-1.5, 0.2, 3, 4, 0.25], 4: [1, 2, 3, 4, 5], 5: [9] * 5, 6: [8] * 5}.items():
        assert table[row].tolist() == pytest.approx(wanted, abs=1e-7)
    others = [row for row in range(20) if row not in (2, 4, 5, 6)]
    assert table[others].equal(random[others])
    assert encoder.embedding.weight.requires_grad
    assert build().start_from_vectors(ids) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the 1 2 3 4\n", r"line 1 has 4 numbers, but text\.width=5"),
        ("the 1 2 3 4 5 6\n", r"line 1 has 6 numbers, but text\.width=5"),
        ("the 1 2 3 4 5\nship 1 2\n", "line 2 has 2 numbers"),
        ("the 1 2 3 4 x\n", "line 1.*'x'"),
        ("the 1 2 3 4 nan\n", "line 1.*not finite"),
        ("lake 1 2 3 4 5\n", "no word of the training expressions"),
        ("", "no word of the training expressions"),
    ],
)
def test_a_wrong_file_of_vectors_is_an_error(tmp_path, text, said) -> None:
    encoder = build(weights=f"glove:{vectors_file(tmp_path, text)}")
    with pytest.raises(UserError, match=rf"text\.weights|{said}") as caught:
        encoder.start_from_vectors({"the": 2, "ship": 3})
    assert re.search(said, str(caught.value), re.DOTALL)


def test_a_missing_file_of_vectors_and_one_that_is_no_text_are_errors(tmp_path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.txt.*\n.*text\.weights"):
        build(weights=f"glove:{tmp_path / 'nowhere.txt'}")
    (tmp_path / "glove.zip").write_bytes(b"PK\x03\x04\xff\xfe\x00\n")
    with pytest.raises(UserError, match="UTF-8"):
        build(weights=f"glove:{tmp_path / 'glove.zip'}").start_from_vectors({"the": 2})
