"""Tags from answers such as vision-language models give."""

from __future__ import annotations

import pytest

from ontologies.ontology import SEPARATORS
from ontologies.taggers.answers import MAX_TAGS, MAX_WORDS, clean_tags, parse_tags


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        # comma lists
        ("dog, cat, dining table", ["dog", "cat", "dining table"]),
        ("Dog, Cat, and a Tree.", ["dog", "cat", "tree"]),
        ("dog, Dog, a dog, 3 DOG", ["dog"]),
        ("a couple of dogs, some trees, 2x chairs, pair of shoes", ["dogs", "trees", "chairs", "shoes"]),
        ("Objects in the image: dog, cat (2), sofa/couch", ["dog", "cat", "sofa", "couch"]),
        ("t-shirt, cat's toy, café au lait", ["t-shirt", "cat's toy", "café au lait"]),
        ("bottle of water, dog<br>cat</s>", ["bottle of water", "dog", "cat"]),
        ("trash can, swimming pool, brick building", ["trash can", "swimming pool", "brick building"]),
        ("dog; cat | tree", ["dog", "cat", "tree"]),
        ("dog - cat – tree", ["dog", "cat", "tree"]),
        ("狗，猫、树。", ["狗", "猫", "树"]),
        # lines
        ("Dog\nTwo cats\n\nTree", ["dog", "cats", "tree"]),
        ("Here is what I can see:\n\n- Dog\n- Cat\n* Dining table", ["dog", "cat", "dining table"]),
        ("1. Dog\n2) a cat\n(3) 12 trees", ["dog", "cat", "trees"]),
        ("1. dog 2. cat 3. tree", ["dog", "cat", "tree"]),
        ("- **Dog**: brown, asleep\n- **Cat:** black\n- `Tree`", ["dog", "cat", "tree"]),
        # JSON
        ('["dog", "traffic light"]', ["dog", "traffic light"]),
        ("['dog', 'cat']", ["dog", "cat"]),
        ('```json\n[\n  "dog",\n  "cat"\n]\n```', ["dog", "cat"]),
        ('{"objects": ["dog", "cat"]}', ["dog", "cat"]),
        ('[{"bbox_2d": [1, 2], "label": "red van"}, {"bbox_2d": [5, 6], "label": "dog"}]', ["red van", "dog"]),
        ('```json\n[{"bbox_2d": [1, 2], "label": "dog"}, {"bbox_2d": [3, 4], "lab', ["dog"]),
        ('["dog", "cat", "tr', ["dog", "cat", "tr"]),
        # sentences
        ("a dog and two cats.", ["dog", "cats"]),
        ("The image shows a man riding a horse on the beach.", ["man", "horse", "beach"]),
        ("I can see a dog and a trash can in the street.", ["dog", "trash can", "street"]),
        ("A brick building on a hill, with a dog chewing on a bone.", ["brick building", "hill", "dog", "bone"]),
        ("There is no dog, but a cat without a collar.", ["cat"]),
        # thoughts
        ("<think>The user wants dogs.\nOr cats?</think>\n\ndog, tree", ["dog", "tree"]),
        ("It may be a cat.</think>dog", ["dog"]),
        ("<think>It may be a cat, a dog", []),
        # nothing
        ("", []),
        (" \n\t ", []),
        ("None.", []),
        ("N/A", []),
        ("[]", []),
        ("There are no objects in the image.", []),
        ("I'm sorry, I can't help with that.", []),
        # dropped phrases
        ("dog, <|endoftext|>, a\x00b, \x1b[31mred, snake_case, 🐶, 1234, cat", ["dog", "cat"]),
        ("dog, some very long winded noun phrase of words, cat", ["dog", "cat"]),
    ],
)  # fmt: skip
def test_answers(answer: str, tags: list[str]) -> None:
    assert parse_tags(answer) == tags


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ("dog, cat, a bro", ["dog", "cat"]),
        ("1. Dog\n2. Red v", ["dog"]),
        ('["dog", "cat", "tr', ["dog", "cat"]),
        ("dog dog dog dog dog", []),
        ("dog", []),
        ("dog, cat.", ["dog", "cat"]),
    ],
)
def test_the_last_phrase_of_a_truncated_answer_is_dropped(answer: str, tags: list[str]) -> None:
    assert parse_tags(answer, complete=False) == tags


# On any of these, quadratic work would never end.
@pytest.mark.parametrize(
    ("piece", "tags"),
    [
        ("dog, cat, ", ["dog", "cat"]),
        ("dog ", []),
        ("x", []),
        ("\n", []),
        (" ", []),
        ("[", []),
        ("(", []),
        ("`", []),
        ('"label": ', []),
        (": ", []),
        ("- ", []),
        ("\x00\x1b\x7f\u202e", []),
        ("1. ", []),
        ("..., ?!", []),
    ],
)
def test_ten_megabytes(piece: str, tags: list[str]) -> None:
    assert parse_tags(piece * (10_000_000 // len(piece))) == tags


def test_there_is_a_limit() -> None:
    many = [f"thing{index}" for index in range(200)]
    assert parse_tags(", ".join(many)) == many[:MAX_TAGS]
    assert clean_tags(many) == many[:MAX_TAGS]


def test_labels_stay_whole() -> None:
    """A label of a phrase detector is one phrase, whatever it contains."""
    assert clean_tags(["Woman in white dress", "a dog", "dog", "no entry", "image", "a.b"]) == [
        "woman in white dress",
        "dog",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_tags_can_always_be_prompts(seed: int) -> None:
    """For any characters, tags have no separator of Grounding DINO, are printable, short and lower-case."""
    import random

    draw = random.Random(seed)
    letters = "aB é\t\n,.?!;:-–—'’\"()[]{}*_`#/|0123\x00\u200b\u202e犬🐶İßﬀ"
    answer = "".join(draw.choices([*letters, " a ", " dog", " and ", " of ", " no ", "- "], k=2000))
    tags = parse_tags(answer)
    assert tags, "the test shows nothing otherwise"
    for tag in tags:
        assert tag.isprintable()
        assert not set(tag) & set(SEPARATORS + ",;")
        assert 1 <= len(tag.split()) <= MAX_WORDS
        assert tag == tag.lower() == " ".join(tag.split())
        assert clean_tags([tag]) == [tag]
    assert len(set(tags)) == len(tags) <= MAX_TAGS
