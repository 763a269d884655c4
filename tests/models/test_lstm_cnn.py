"""LSTM-CNN: every cell's score in loops, and its blindness without the sentence or the coordinates."""

from __future__ import annotations

import torch

from tests.fakes.config import compose

from .conftest import build_tiny, make_inputs


def plain(model, map_CGG: torch.Tensor, sentence_D: torch.Tensor, row: int, column: int) -> float:
    """The score of one cell."""
    grid = map_CGG.shape[1]
    visual = model.visual.weight[:, :, 0, 0] @ map_CGG[:, row, column] + model.visual.bias
    left, top, width = 2 * column / grid - 1, 2 * row / grid - 1, 2 / grid
    places = [left, top, left + width, top + width, left + width / 2, top + width / 2, 1 / grid, 1 / grid]
    joined = torch.cat([visual / visual.norm(), sentence_D / sentence_D.norm(), torch.tensor(places).double()])
    hidden = (model.fusion.weight[:, :, 0, 0] @ joined + model.fusion.bias).clamp_min(0)
    return float(model.score.weight[0, :, 0, 0] @ hidden + model.score.bias[0])


def test_the_score_of_every_cell() -> None:
    model = build_tiny("lstm_cnn").double().eval()
    views, text = make_inputs(2, views=model.views, tokens=model.max_tokens)
    with torch.no_grad():
        logits = model(views, text).logits
        maps = model.backbone(views["image"])["c5"]
        assert logits.shape == (2, model.grid, model.grid) == (2, *maps.shape[2:])
        for sample in range(2):
            # The sentence vector alone: the LSTM over the words of one row, without the others.
            row = {key: value[[sample]] for key, value in text.items()}
            sentence = model.words.read(row["input_ids"], row["word_mask"]).last_BD[0]
            for place in ((0, 0), (2, 5), (7, 7)):
                assert abs(float(logits[sample][place]) - plain(model, maps[sample], sentence, *place)) < 1e-10


def test_the_columns_of_the_fusion_are_vision_sentence_and_coordinates() -> None:
    model = build_tiny("lstm_cnn").double().eval()
    visual, words = model.visual.out_channels, model.words.width
    views, text = make_inputs(2, views=model.views, tokens=model.max_tokens)
    other = {**text, "input_ids": text["input_ids"].flip(1)}
    with torch.no_grad():
        assert not model(views, text).logits.equal(model(views, other).logits)
        model.fusion.weight[:, visual : visual + words] = 0
        assert model(views, text).logits.equal(model(views, other).logits)
        model.fusion.weight[:, :visual] = 0
        blind = model(views, text).logits
        torch.testing.assert_close(blind[0], blind[1], rtol=0, atol=1e-12)  # coordinates alone
        assert float(blind[0].std()) > 0


def test_the_recipe_divides_eps_by_the_cells_of_the_sum() -> None:
    train = compose("model=lstm_cnn", "data=refsegrs", "size=paper")["train"]
    assert train["optimizer"]["eps"] == 6e-12
    assert (train["optimizer"]["lr"], train["optimizer"]["weight_decay"]) == (2.5e-4, 0.0)
