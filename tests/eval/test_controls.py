"""The language controls take away what they say, for any grouping of samples into images."""

from __future__ import annotations

import random

from rrsis_bench.eval.controls import category_only, same_image_other_expression, shuffled_text


def groupings(count: int = 300):
    """Random assignments of 1 to 30 samples to 1 to 8 images, expressions numbered or drawn with repetition."""
    generator = random.Random(0)
    for _ in range(count):
        images = [f"i{generator.randrange(generator.randint(1, 8))}" for _ in range(generator.randint(1, 30))]
        numbered = [f"expression {index} of {image}" for index, image in enumerate(images)]
        repeated = [f"the ship {generator.randrange(4)}" for _ in images]
        yield images, numbered, repeated, generator.randrange(1000)


def test_shuffled_text_comes_from_another_image_and_one_donor_each():
    seen = 0
    for images, expressions, _, seed in groupings():
        shuffled = shuffled_text(images, expressions, seed)
        if len(set(images)) == 1:
            assert shuffled == [None] * len(images)
            continue
        owner = dict(zip(expressions, images, strict=True))
        donors: dict[str, set[str]] = {}
        for image, text in zip(images, shuffled, strict=True):
            assert owner[text] != image
            donors.setdefault(image, set()).add(owner[text])
        assert all(len(group) == 1 for group in donors.values())
        assert len(set.union(*donors.values())) == len(donors), "a derangement uses every image once"
        seen += 1
    assert seen > 100


def test_shuffled_text_is_a_function_of_its_seed():
    images = [f"i{index}" for index in range(20)]
    texts = [f"e{index}" for index in range(20)]
    assert shuffled_text(images, texts, 1) == shuffled_text(images, texts, 1) != shuffled_text(images, texts, 2)


def test_shuffled_text_spreads_a_donors_expressions():
    images = ["a", "a", "a", "b", "b"]
    assert sorted(shuffled_text(images, ["1", "2", "3", "4", "5"])) == ["1", "2", "4", "4", "5"]


def test_same_image_other_is_of_the_same_image_and_never_its_own():
    for images, numbered, repeated, _ in groupings():
        for texts in (numbered, repeated):
            of_image: dict[str, set[str]] = {}
            for image, text in zip(images, texts, strict=True):
                of_image.setdefault(image, set()).add(text)
            for image, text, other in zip(images, texts, same_image_other_expression(images, texts), strict=True):
                if len(of_image[image]) == 1:
                    assert other is None
                else:
                    assert other in of_image[image] - {text}


def test_same_image_other_takes_turns():
    assert same_image_other_expression(["a", "a", "a"], ["1", "2", "3"]) == ["2", "3", "1"]


def test_category_only_says_the_category_in_plain_words():
    found = category_only(["tenniscourt", "Expressway-Service-area", "ship", None])
    assert found == ["tennis court", "expressway service area", "ship", None]
