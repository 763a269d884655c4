"""A model that encodes pictures apart from the text pays once per picture, and its masks stay what they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from rrsis_bench import registry
from rrsis_bench.data.loading.loader import ViewDataset, collate
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.eval.mask_maker import MaskMaker, scoring_order
from rrsis_bench.interfaces import ImageFirstSegmenter, Segmenter, resize_logits
from rrsis_bench.results.render import gallery
from rrsis_bench.run.data import expressions_of, open_splits
from rrsis_bench.run.model import build_model, build_vocabulary, load_text
from tests.fakes.config import NARROW, parsed, tiny_overrides
from tests.fakes.image_first import ImageFirst
from tests.fakes.toy import Toy, make_trainer, views_of

NATIVE = parsed("protocol=native").protocol
SCATTERED = [0, 2, 4, 6, 1, 3, 5, 7]  # two expressions to a picture, never side by side


class Ungrouped(Segmenter):
    """The same model, of which the harness knows nothing."""

    def __init__(self, inner: ImageFirstSegmenter):
        super().__init__()
        self.views, self.max_tokens, self.inner = inner.views, inner.max_tokens, inner

    def forward(self, views, text):
        return self.inner(views, text)


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def logits_of(model: Segmenter, data: ViewDataset, fabric: Fabric, monkeypatch, **options):
    """(counts, sample id -> logits) of an evaluation."""
    core = model.inner if isinstance(model, Ungrouped) else model
    decode, seen, order = core.decode, [], []

    def spy(encoded, text):
        output = decode(encoded, text)
        seen.extend(output.logits.detach().float())
        return output

    with monkeypatch.context() as patch:
        patch.setattr(core, "decode", spy)
        table = predict_and_count(
            model, data, NATIVE, fabric, on_mask=lambda sample, _: order.append(sample.sample_id), **options
        )
    return table, dict(zip(order, seen, strict=True))


def assert_agree(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    """Logits within 1e-4; masks at native size (64 pixels in the fake tree) differ only where the logit is about 0."""
    assert set(one) == set(two)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-4)
        a_HW, b_HW = (resize_logits(found[name][None], [(64, 64)], align_corners=False)[0] for found in (one, two))
        assert bool((a_HW.abs()[(a_HW > 0) != (b_HW > 0)] < 1e-4).all())


@pytest.mark.parametrize(("batch_size", "workers"), [(8, 0), (3, 0), (3, 2), (1, 0)])
def test_every_picture_is_encoded_once(fake_root, fabric, monkeypatch, batch_size, workers):
    data = views_of(fake_root, native_masks=True)
    pictures = {data.dataset[index].image_id for index in range(8)}
    assert len(pictures) == 4
    model = ImageFirst()
    table, grouped = logits_of(
        model, data, fabric, monkeypatch, batch_size=batch_size, num_workers=workers, indices=SCATTERED
    )
    assert sum(model.encoded) == 4
    assert max(model.encoded) <= min(batch_size, 4)
    model.encoded.clear()
    plain, ungrouped = logits_of(Ungrouped(model), data, fabric, monkeypatch, batch_size=batch_size, indices=SCATTERED)
    assert sum(model.encoded) == 8
    assert_agree(grouped, ungrouped)
    shares = [float((map_HW > 0).float().mean()) for map_HW in grouped.values()]
    assert any(0.2 < share < 0.8 for share in shares), "masks of one value show nothing"
    assert [row.sample_id for row in table] == [data.dataset[index].sample_id for index in SCATTERED]
    assert list(table) == list(plain)


def test_batches_of_other_models_stay_as_they_are(fake_root):
    data = views_of(fake_root)
    assert scoring_order(Toy(), data.dataset, SCATTERED) == list(range(8))
    assert scoring_order(ImageFirst(), data.dataset, SCATTERED) == [0, 4, 1, 5, 2, 6, 3, 7]


def test_one_picture_is_held_between_batches_and_no_more(fake_root, fabric):
    data, model = views_of(fake_root, native_masks=True), ImageFirst().eval()
    make_masks = MaskMaker(model, fabric, align_corners=False)
    batch = collate([data[index] for index in range(6)])
    make_masks(batch, [(64, 64)] * 6)
    picture, held = make_masks._last
    assert picture == batch.samples[-1].image_id
    for tensor in held.values():
        assert len(tensor) == 1
        assert tensor.untyped_storage().nbytes() == tensor.nbytes, "a view would hold the whole batch"
    for index in (0, 5, 4, 0):  # pictures 0, 2, 2, 0
        make_masks(collate([data[index]]), [(64, 64)])
    assert model.encoded == [3, 1, 1, 1], "three, then the first again, the last again (once), the first again"


def test_a_batch_may_mix_its_pictures(fake_root, fabric):
    data, model = views_of(fake_root, native_masks=True), ImageFirst().eval()
    make_masks = MaskMaker(model, fabric, align_corners=False)
    for indices in (SCATTERED, [5, 7, 1, 6]):  # the second batch knows the picture of 7 and 6 already
        batch = collate([data[index] for index in indices])
        sizes = [(64, 64)] * len(indices)
        found = make_masks(batch, sizes)
        plain = model.predict_masks(batch.views, batch.text, sizes)
        assert len({tuple(mask_HW.flatten().tolist()) for mask_HW in plain}) == len(indices), "all differ"
        assert all(nearly_equal(a_HW, b_HW) for a_HW, b_HW in zip(found, plain, strict=True))
    assert model.encoded == [4, 8, 2, 4]


def nearly_equal(one_HW: torch.Tensor | np.ndarray, two_HW: torch.Tensor | np.ndarray) -> bool:
    """Whether two masks agree, up to pixels whose logit is near 0: another batch may be summed in another order."""
    return float((torch.as_tensor(one_HW) ^ torch.as_tensor(two_HW)).float().mean()) <= 1e-3


def gradients(root, run_dir, *, plain: bool = False, **views) -> tuple[ImageFirst, dict[str, torch.Tensor]]:
    """(the model, the gradients of a batch of eight samples, in no order of pictures)."""
    model = ImageFirst()
    with torch.no_grad():
        model.backbone.lora_b.normal_()  # from zeros its twin would have no gradient
    data = views_of(root, **views)
    trainer = make_trainer(root, run_dir, model=Ungrouped(model) if plain else model, data=data, batch_size=8)
    batch = collate([data[index] for index in SCATTERED])
    trainer._loss(batch, [batch]).backward()
    return model, {name: tensor.grad for name, tensor in model.named_parameters() if tensor.requires_grad}


def test_training_encodes_a_picture_once_per_batch_at_the_same_gradients(fake_root, tmp_path):
    model, found = gradients(fake_root, tmp_path / "once")
    assert model.encoded == [4], "eight samples of four pictures"
    other, expected = gradients(fake_root, tmp_path / "each", plain=True)
    assert other.encoded == [8]
    assert {"backbone.lora_a", "backbone.lora_b", "words.weight", "head.weight"} <= set(found)
    for name, gradient in found.items():
        assert float(expected[name].abs().max()) > 0 or name == "head.bias", name  # the mean is taken off the logits
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_rows_that_do_not_fit_the_images_are_named_in_training(fake_root, tmp_path):
    class Pooled(ImageFirst):
        def encode_image(self, views):
            return {**super().encode_image(views), "scale": torch.ones(1)}

    trainer = make_trainer(fake_root, tmp_path, model=Pooled(), batch_size=8)
    with pytest.raises(ValueError, match=r"Pooled\.encode_image returned 'scale' of shape \(1,\) for 4 images"):
        trainer.fit()


def test_augmented_pictures_are_encoded_for_every_sample(fake_root, tmp_path):
    """Their squares differ."""
    model, _ = gradients(fake_root, tmp_path, augment=[{"name": "black_boxes"}])
    assert model.encoded == [8]


def test_grouped_batches_hold_whole_pictures(fake_root, tmp_path):
    model = ImageFirst()
    make_trainer(fake_root, tmp_path, model=model, batch_size=2, epochs=2, group_by_image=True).fit()
    assert model.encoded == [1] * 8, "two expressions to a picture, two samples to a batch"


def test_the_gallery_encodes_once_too(fake_root, fabric):
    data, model = views_of(fake_root, native_masks=True), ImageFirst()
    found = gallery.predictor(model, data, fabric, align_corners=False)(SCATTERED)
    assert sum(model.encoded) == 4
    plain = gallery.predictor(Ungrouped(model), data, fabric, align_corners=False)(SCATTERED)
    assert set(found) == set(range(8))
    assert all(nearly_equal(found[index], plain[index]) for index in range(8))


def test_rows_that_do_not_fit_the_images_are_named(fake_root, fabric):
    class Pooled(ImageFirst):
        def encode_image(self, views):
            return {**super().encode_image(views), "scale": torch.ones(1)}

    with pytest.raises(ValueError, match=r"Pooled\.encode_image returned 'scale' of shape \(1,\) for 4 images"):
        predict_and_count(Pooled(), views_of(fake_root, native_masks=True), NATIVE, fabric, batch_size=8)


@pytest.mark.parametrize("method", ["forward", "predict_encoded_masks", "predict_masks"])
def test_what_ties_the_halves_together_is_sealed(method):
    def own(*_, **__):
        return []

    with pytest.raises(TypeError, match=f"Cheat overrides {method}, which is sealed"):
        type("Cheat", (ImageFirst,), {method: own})
    mixin = type("Mixin", (), {method: own})
    with pytest.raises(TypeError, match=f"Sneak overrides {method}, which is sealed"):
        type("Sneak", (mixin, ImageFirst), {})


def test_models_of_the_registry_agree_grouped_and_ungrouped(fake_root, tmp_path, fabric, monkeypatch):
    names = [name for name in registry.entries() if issubclass(registry.load_class(name), ImageFirstSegmenter)]
    assert names
    for name in names:
        overrides = [override for override in tiny_overrides(tmp_path, fake_root) if override not in NARROW]
        overrides += ["size.image=64", *registry.load_class(name).contract.tiny_overrides]
        overrides += ["model.args.parser=chain"] if name == "lscm" else []  # the tests have no pipeline of spaCy
        config = parsed(f"model={name}", *overrides)
        torch.manual_seed(0)
        model = build_model(config.model)
        train = open_splits(config.data, fake_root, ["train"])["train"]
        build_vocabulary(config, expressions_of(train), vocabulary := tmp_path / name / "vocab.txt")
        text = load_text(config, model, train.category_names, vocabulary)
        data = ViewDataset(train, model.views, text, native_masks=True)
        calls: list[int] = []

        def counted(views, encode=model.encode_image, calls=calls):
            calls.append(len(next(iter(views.values()))))
            return encode(views)

        monkeypatch.setattr(model, "encode_image", counted)
        _, grouped = logits_of(model, data, fabric, monkeypatch, batch_size=3, indices=SCATTERED)
        assert sum(calls) == 4, name
        _, ungrouped = logits_of(Ungrouped(model), data, fabric, monkeypatch, batch_size=3, indices=SCATTERED)
        assert_agree(grouped, ungrouped)
