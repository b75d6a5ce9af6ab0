from __future__ import annotations

import pytest

from labeler.errors import UsageError
from labeler.models.detectors.captions import SEPARATOR_IDS, Caption, pack_prompts
from tests.support.tiny_models import BERT_SEPARATORS, WORDS, bert_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return bert_tokenizer()


def test_separators_are_the_tokenizers(tokenizer: object) -> None:
    assert frozenset(tokenizer.convert_tokens_to_ids(list(BERT_SEPARATORS))) == SEPARATOR_IDS


@pytest.mark.parametrize(
    "prompts",
    [
        ("cat",),
        ("cat", "dog"),
        ("red cat", "blue dog", "car"),
        ("cat dog", "dog cat"),
        ("zebra", "cat"),  # split into word pieces
        ("t-box", "bird's boat", "red, blue"),  # punctuation that is not a separator
        ("Red CAT", "dOg"),
        ("  red   cat ", "dog"),
        ("red unknown漢 cat",),  # partly unknown
    ],
)
def test_a_caption_is_the_tokenizers_own(tokenizer: object, prompts: tuple[str, ...]) -> None:
    (caption,) = pack_prompts(prompts, tokenizer, 64)
    text = "".join(f"{prompt}. " for prompt in prompts)
    assert list(caption.token_ids) == tokenizer(text.lower()).input_ids
    assert caption.prompt_indices == tuple(range(len(prompts)))
    for prompt, (start, stop) in zip(prompts, caption.spans, strict=True):
        alone = tokenizer(prompt.lower(), add_special_tokens=False).input_ids
        assert list(caption.token_ids[start:stop]) == alone
        assert caption.token_ids[stop] == BERT_SEPARATORS["."]


def test_without_prompts_there_are_no_captions(tokenizer: object) -> None:
    assert pack_prompts((), tokenizer, 64) == []


@pytest.mark.parametrize(
    ("token_budget", "counts"),
    [
        # [CLS], [SEP] and two tokens per prompt: 2 + 2 n
        (22, [10]),
        (21, [9, 1]),
        (12, [5, 5]),
        (11, [4, 4, 2]),
        (4, [1] * 10),
    ],
)
def test_the_token_budget_is_used_and_not_exceeded(tokenizer: object, token_budget: int, counts: list[int]) -> None:
    captions = pack_prompts(WORDS, tokenizer, token_budget)
    assert [len(caption.prompt_indices) for caption in captions] == counts
    assert max(len(caption.token_ids) for caption in captions) <= token_budget
    assert [index for caption in captions for index in caption.prompt_indices] == list(range(len(WORDS)))


@pytest.mark.parametrize(
    ("prompts_per_caption", "counts"), [(1, [1] * 10), (3, [3, 3, 3, 1]), (10, [10]), (99, [10]), (None, [10])]
)
def test_prompts_per_caption(tokenizer: object, prompts_per_caption: int | None, counts: list[int]) -> None:
    captions = pack_prompts(WORDS, tokenizer, 64, prompts_per_caption)
    assert [len(caption.prompt_indices) for caption in captions] == counts


def test_the_lower_of_both_limits_applies(tokenizer: object) -> None:
    assert [len(c.prompt_indices) for c in pack_prompts(WORDS, tokenizer, 8, prompts_per_caption=4)] == [3, 3, 3, 1]


def test_prompts_of_different_length(tokenizer: object) -> None:
    prompts = ("red cat dog", "car", "blue bird", "boat")
    cls, sep, dot, _ = (BERT_SEPARATORS[token] for token in ("[CLS]", "[SEP]", ".", "?"))
    red, blue, cat, dog, car, _, _, _, bird, boat = tokenizer.convert_tokens_to_ids(list(WORDS))
    assert pack_prompts(prompts, tokenizer, 8) == [
        Caption((cls, red, cat, dog, dot, car, dot, sep), (0, 1), ((1, 4), (5, 6))),
        Caption((cls, blue, bird, dot, boat, dot, sep), (2, 3), ((1, 3), (4, 5))),
    ]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (("cat", "red cat dog car"), r"prompt 'red cat dog car' takes 4 tokens; the detector reads 3$"),
        (("cat.",), r"prompt 'cat\.' contains '\.' or '\?'"),
        (("cat", "a.b"), r"prompt 'a\.b' contains"),
        (("cat?",), r"prompt 'cat\?' contains"),
        (("漢字",), r"prompt '漢字' has no word"),
        (("cat", "漢 字"), r"prompt '漢 字' has no word"),
        (("",), r"prompt '' has no word"),
        ((" ",), r"prompt ' ' has no word"),
    ],
)
def test_invalid_prompts(tokenizer: object, prompts: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        pack_prompts(prompts, tokenizer, 6)
    assert "\n" not in str(caught.value)


def test_the_longest_prompt_fits(tokenizer: object) -> None:
    (caption,) = pack_prompts(("red cat dog",), tokenizer, 6)
    assert len(caption.token_ids) == 6


def test_special_tokens_spelled_out_are_words(tokenizer: object) -> None:
    (caption,) = pack_prompts(("cat [SEP] dog",), tokenizer, 64)
    assert SEPARATOR_IDS.isdisjoint(caption.token_ids[slice(*caption.spans[0])])
