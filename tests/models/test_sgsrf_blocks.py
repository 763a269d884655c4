"""Every block of SGSRF against its plainest form: loops over samples, heads and tokens."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from rrsis_bench.models.blocks.multihead import Attention, initialise
from rrsis_bench.models.sgsrf.ccr import ConsistencyRefinement, ContextTokens, pool_words
from rrsis_bench.models.sgsrf.consistency import consistency_loss, relations
from rrsis_bench.models.sgsrf.gmfe import FeatureEnhancement, MapEnhancement
from rrsis_bench.models.sgsrf.gpg import DenseMap, PromptBlock, PromptGenerator, mean_word
from rrsis_bench.models.sgsrf.layers import FeedForward
from torch import Tensor

DIM, HEADS = 16, 4
WORDS = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 0], [0, 1, 1, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0, 0, 0]]).bool()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(module: torch.nn.Module) -> torch.nn.Module:
    """The module in float64, every parameter drawn anew, so that no bias or gain hides behind 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return module


@torch.no_grad()
def looped(
    layer: Attention, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention of one query, one head and one allowed key at a time; the output, and the mean weights."""
    query, key, value = layer.query(queries), layer.key(keys), layer.value(values)
    batch, n, inner = query.shape
    size = inner // layer.heads
    found = torch.zeros(batch, n, inner, dtype=query.dtype)
    weights = torch.zeros(batch, n, key.shape[1], dtype=query.dtype)
    for row in range(batch):
        allowed = [k for k in range(key.shape[1]) if mask is None or mask[row, k]]
        for q in range(n):
            for head in range(layer.heads):
                part = slice(head * size, (head + 1) * size)
                exps = [torch.exp(query[row, q, part] @ key[row, k, part] / math.sqrt(size)) for k in allowed]
                for k, e in zip(allowed, exps, strict=True):
                    weights[row, q, k] += e / sum(exps) / layer.heads
                    found[row, q, part] += e / sum(exps) * value[row, k, part]
    return layer.out(found), weights


@pytest.mark.parametrize("heads", [1, HEADS])
def test_attention_is_the_loop_over_tokens(heads) -> None:
    layer = built(Attention(DIM, 8, heads))
    queries, tokens, values = draw(3, 5, DIM), draw(3, 8, DIM, seed=1), draw(3, 8, DIM, seed=2)
    for mask in (None, WORDS):
        wanted, weights = looped(layer, queries, tokens, values, mask)
        assert torch.allclose(layer(queries, tokens, values, mask), wanted)
        found, mean = layer.with_weights(queries, tokens, values, mask)
        assert torch.allclose(found, wanted)
        assert torch.allclose(mean, weights)


def test_attention_without_any_allowed_token_finds_nothing() -> None:
    layer = built(Attention(DIM, 8, HEADS))
    queries, tokens = draw(3, 5, DIM), draw(3, 8, DIM, seed=1).requires_grad_()
    mask = WORDS.clone()
    mask[1] = False
    for found in (layer(queries, tokens, tokens, mask), layer.with_weights(queries, tokens, tokens, mask)[0]):
        assert torch.allclose(found[1], layer.out.bias.expand(5, -1))
        assert not torch.allclose(found[0], layer.out.bias.expand(5, -1))
        (grad,) = torch.autograd.grad(found.sum(), tokens, retain_graph=True)
        assert torch.isfinite(grad).all()
        assert not grad[1].any()


def test_relations_are_cosines_of_columns() -> None:
    attention = draw(2, 6, 4).softmax(-1)
    attention[1, :, 2] = 0  # a word that is masked
    matrix = relations(attention)
    for row in range(2):
        for i in range(4):
            for j in range(4):
                wanted = F.cosine_similarity(attention[row, :, i], attention[row, :, j], dim=0)
                assert torch.allclose(matrix[row, i, j], wanted), (row, i, j)
    assert torch.allclose(matrix[0].diagonal(), torch.ones(4, dtype=torch.float64))
    assert not matrix[1, 2].any()


def looped_loss(language: Tensor, vision: Tensor, mask: Tensor, reduction: str = "sum") -> float:
    """Equation 21 with its sign: rows of each sample, then samples."""
    total = 0.0
    for row in range(len(mask)):
        cosines = []
        words = [token for token in range(mask.shape[1]) if mask[row, token]]
        for i in words:
            before = [j for j in words if j < i]
            if len(before) < 2:
                continue
            p, q = ([float(matrix[row, i, j]) for j in before] for matrix in (language, vision))
            dot = sum(a * b for a, b in zip(p, q, strict=True))
            cosines.append(1 - dot / math.sqrt(sum(a * a for a in p)) / math.sqrt(sum(b * b for b in q)))
        total += sum(cosines) / (max(1, len(cosines)) if reduction == "mean" else 1)
    return total / len(mask)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_loss_is_the_loop_over_rows(reduction) -> None:
    language, vision = draw(3, 8, 8).softmax(-1), relations(draw(3, 9, 8, seed=1).softmax(-1))
    got = float(consistency_loss(language, vision, WORDS, reduction=reduction))
    assert abs(got - looped_loss(language, vision, WORDS, reduction)) < 1e-12
    assert got > 1e-3


def test_the_sum_over_rows_grows_with_the_sentence() -> None:
    """Equation 21 sums the rows of a sample and divides by the batch."""
    language, vision = draw(1, 8, 8).softmax(-1), relations(draw(1, 9, 8, seed=1).softmax(-1))
    five = WORDS[:1]  # of five words, three rows count
    sum_, mean = (float(consistency_loss(language, vision, five, reduction=name)) for name in ("sum", "mean"))
    assert abs(sum_ - 3 * mean) < 1e-12
    twice = [matrix.expand(2, -1, -1) for matrix in (language, vision)]
    assert abs(float(consistency_loss(*twice, five.expand(2, -1))) - sum_) < 1e-12


def test_loss_is_0_where_both_structures_agree_and_rises_when_one_token_is_swapped() -> None:
    attention = draw(1, 9, 8, seed=3).mul(2).softmax(-1)
    mask = WORDS[:1]
    vision = relations(attention)
    assert abs(float(consistency_loss(0.3 * vision, vision, mask))) < 1e-12  # each row up to a factor
    swapped = attention.clone()
    swapped[..., 2] = attention[..., 2].flip(1)  # word 2 answers to other places
    assert float(consistency_loss(vision, relations(swapped), mask)) > 0.01
    order = [0, 1, 4, 3, 2, 5, 6, 7]  # words 2 and 4 exchange their attention
    assert float(consistency_loss(vision, relations(attention[..., order]), mask)) > 0.001


def test_rows_with_fewer_than_two_entries_are_skipped() -> None:
    language, vision = draw(1, 8, 8).softmax(-1), relations(draw(1, 9, 8, seed=1).softmax(-1))
    for words in ([1], [1, 2]):  # the second word has one word before it: its cosine is 1 whatever happens
        mask = torch.zeros(1, 8, dtype=torch.bool)
        mask[0, words] = True
        language.requires_grad_()
        loss = consistency_loss(language, vision, mask)
        assert loss == 0
        (grad,) = torch.autograd.grad(loss, language)
        assert not grad.any()
        assert torch.isfinite(grad).all()
    mask[0, 3] = True  # the third word's row counts, and it alone
    third = 1 - F.cosine_similarity(language[0, 3, 1:3], vision[0, 3, 1:3], dim=0)
    assert torch.allclose(consistency_loss(language, vision, mask), third)


def test_words_alone_are_pooled_as_adaptive_average_pooling_does() -> None:
    words = draw(3, 8, DIM)
    for count in (1, 3, 6, 9):
        pooled = pool_words(words, WORDS, count)
        for row in range(3):
            wanted = F.adaptive_avg_pool1d(words[row, WORDS[row]].T[None], count)[0].T
            assert torch.allclose(pooled[row], wanted), (count, row)
    assert not pool_words(words, torch.zeros_like(WORDS), 3).any()
    assert torch.allclose(mean_word(words, WORDS)[1], words[1, WORDS[1]].mean(0))
    assert not mean_word(words, torch.zeros_like(WORDS)).any()


@pytest.mark.parametrize(("context", "both_ways"), [(3, True), (3, False), (0, True), (0, False)])
def test_refinement_is_the_loop_over_tokens(context, both_ways) -> None:
    """Words and context tokens sample by sample, without padding: only what the masks leave."""
    module = built(ConsistencyRefinement(DIM, 24, HEADS, context=context, init="pooled", both_ways=both_ways))
    patches, words = draw(3, 9, DIM), draw(3, 8, DIM, seed=1)
    refined = module(patches, words, WORDS, structures=True)
    language, vision = torch.zeros(3, 8, 8, dtype=torch.float64), torch.zeros(3, 8, 8, dtype=torch.float64)
    for row in range(3):
        at = WORDS[row].nonzero()[:, 0]
        n, image, u = len(at), patches[row : row + 1], words[row, at][None]
        positions = torch.zeros(n + context, DIM, dtype=torch.float64)
        if context:
            u = torch.cat([u, F.adaptive_avg_pool1d(u.transpose(1, 2), context).transpose(1, 2)], 1)
            positions[n:] = module.context.positions_GC
        found, a_uu = looped(module.of_text, u + positions, u + positions, u, None)
        u = module.of_text_ff(module.of_text_norm(u + found))
        if both_ways:
            found, _ = looped(module.to_text, u + positions, image, image, None)
            u = module.to_text_ff(module.to_text_norm(u + found))
        found, a_fu = looped(module.to_image, image, u + positions, u, None)
        image = module.to_image_ff(module.to_image_norm(image + found))
        assert torch.allclose(refined.patches_BNC[row], image[0])
        assert torch.allclose(refined.words_BLC[row, at], u[0, :n])
        if context:
            assert torch.allclose(refined.context_BGC[row], u[0, n:])
        for i in range(n):
            for j in range(n):
                language[row, at[i], at[j]] = a_uu[0, i, j]
                vision[row, at[i], at[j]] = F.cosine_similarity(a_fu[0, :, i], a_fu[0, :, j], dim=0)
    assert (refined.context_BGC is None) == (context == 0)
    assert abs(float(refined.consistency.detach()) - looped_loss(language, vision, WORDS)) < 1e-8
    quiet = module(patches, words, WORDS, structures=False)
    assert quiet.consistency is None
    assert torch.allclose(quiet.patches_BNC, refined.patches_BNC)
    assert torch.allclose(quiet.words_BLC, refined.words_BLC)


def test_the_refinement_starts_as_the_identity() -> None:
    module = ConsistencyRefinement(DIM, 24, HEADS, context=3, init="pooled", both_ways=True).double()
    patches, words = (F.layer_norm(draw(3, n, DIM, seed=n), (DIM,)) for n in (9, 8))
    assert not torch.allclose(module(patches, words, WORDS, structures=False).patches_BNC, patches, atol=0.1)
    initialise(module)
    module.start_as_identity()
    refined = module(patches, words, WORDS, structures=True)
    assert torch.allclose(refined.patches_BNC, patches, atol=1e-3)  # but for the norms' epsilon
    assert torch.allclose(refined.words_BLC, words, atol=1e-3)
    refined.patches_BNC.square().mul(draw(3, 9, DIM)).sum().backward()
    assert module.to_image.out.weight.grad.abs().max() > 1e-6


def test_prompts_start_from_the_words_alone() -> None:
    module = PromptGenerator(DIM, 16, 24, HEADS, sparse=3, dense=True).double()
    initialise(module)
    words, patches = draw(3, 8, DIM, seed=1), draw(3, 9, DIM)
    before = module(patches, words, WORDS)[0]
    assert not torch.allclose(before, module(2 * patches + 1, words, WORDS)[0], atol=1e-3)
    module.start_from_words()
    before = module(patches, words, WORDS)[0]
    assert torch.allclose(before, module(2 * patches + 1, words, WORDS)[0])
    assert not torch.allclose(before, module(patches, words + draw(3, 8, DIM, seed=2), WORDS)[0], atol=1e-2)


def test_the_loss_reaches_both_structures() -> None:
    module = built(ConsistencyRefinement(DIM, 24, HEADS, context=3, init="pooled", both_ways=True))
    module(draw(3, 9, DIM), draw(3, 8, DIM, seed=1), WORDS, structures=True).consistency.backward()
    for layer in (module.of_text.query, module.of_text.key, module.to_image.query, module.to_image.key):
        assert layer.weight.grad.abs().max() > 1e-8
    assert module.to_image.value.weight.grad is None


def test_initialisations_of_the_context_tokens() -> None:
    words = draw(2, 8, DIM).float()
    torch.manual_seed(0)
    zero, free = (ContextTokens(DIM, 3, init) for init in ("zero", "random"))
    assert not zero(words, WORDS[:2]).any()
    assert zero.tokens_GC.requires_grad
    assert 0.5 < free(words, WORDS[:2]).std() < 1.5
    assert free(words, WORDS[:2])[0].equal(free(words, WORDS[:2])[1])
    assert len(list(ContextTokens(DIM, 3, "pooled").parameters())) == 1  # the positions


def test_prompt_block_is_the_loop_over_tokens() -> None:
    block = built(PromptBlock(DIM, 8, 24, HEADS))
    prompts, positions = draw(3, 4, DIM), draw(4, DIM, seed=1)
    patches, words = draw(3, 9, DIM, seed=2), draw(3, 8, DIM, seed=3)
    out = block(prompts, positions, patches, words, WORDS)
    x = prompts
    x = block.of_prompts_norm(x + looped(block.of_prompts, x + positions, x + positions, x, None)[0])
    x = block.to_image_ff(block.to_image_norm(x + looped(block.to_image, x + positions, patches, patches, None)[0]))
    x = block.to_text_ff(block.to_text_norm(x + looped(block.to_text, x + positions, words, words, WORDS)[0]))
    assert torch.allclose(out, x)


@pytest.mark.parametrize("dense", [True, False])
def test_generator_runs_the_blocks_and_splits_the_tokens(dense) -> None:
    generator = built(PromptGenerator(DIM, 8, 24, HEADS, sparse=3, dense=dense))
    patches, words = draw(3, 9, DIM), draw(3, 8, DIM, seed=1)
    sparse, token = generator(patches, words, WORDS)
    x = generator.tokens_PC.expand(3, -1, -1)
    assert x.shape[1] == 3 + dense
    assert len(generator.blocks) == 2
    for block in generator.blocks:
        x = block(x, generator.positions_PC, patches, words, WORDS)
    assert torch.allclose(sparse, x[:, -3:])
    assert token is None if not dense else torch.allclose(token, x[:, 0])


def test_dense_map_is_one_dot_product_per_position() -> None:
    module = built(DenseMap(DIM, 24))
    patches, token = draw(2, 6, DIM), draw(2, DIM, seed=1)
    out = module(patches, token, (2, 3))
    assert out.shape == (2, 1, 2, 3)
    for row in range(2):
        for y in range(2):
            for x in range(3):
                dot = (patches[row, 3 * y + x] * module.mlp(token)[row]).sum()
                assert torch.allclose(out[row, 0, y, x], dot / math.sqrt(DIM))


def test_enhancement_is_the_loop_over_positions() -> None:
    module = built(MapEnhancement(6, DIM, 0.1))
    maps, cues = draw(2, 6, 3, 4), draw(2, 5, DIM, seed=1)
    out = module(maps, cues)
    for row in range(2):
        keys, values = module.key(cues[row]), module.value(cues[row])
        for y in range(3):
            for x in range(4):
                query = module.query(maps[row, :, y, x])
                weights = torch.stack([query @ key / math.sqrt(6) for key in keys]).softmax(0)
                wanted = maps[row, :, y, x] + module.alpha * (weights[:, None] * values).sum(0)
                assert torch.allclose(out[row, :, y, x], wanted)


def test_enhancement_starts_small_and_has_its_own_weights_per_level() -> None:
    module = FeatureEnhancement((4, 8), DIM, 0.1)
    maps = [draw(1, 4, 4, 4).float(), draw(1, 8, 2, 2).float()]
    cues = F.layer_norm(draw(1, 5, DIM).float(), (DIM,))
    for before, after in zip(maps, module(maps, cues), strict=True):
        assert 0 < (after - before).abs().max() < 0.3
    with torch.no_grad():
        module.levels[0].alpha.zero_()
    first, second = module(maps, cues)
    assert first.equal(maps[0])
    assert not second.equal(maps[1])


def test_feed_forward() -> None:
    module = built(FeedForward(DIM, 24))
    x = draw(2, 3, DIM)
    inner = F.gelu(x @ module.mlp[0].weight.T + module.mlp[0].bias)
    wanted = x + inner @ module.mlp[2].weight.T + module.mlp[2].bias
    wanted = F.layer_norm(wanted, (DIM,)) * module.norm.weight + module.norm.bias
    assert torch.allclose(module(x), wanted)
