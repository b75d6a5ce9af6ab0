"""``LanguageTagger`` with tiny models that are trained, in the test, to give a text for each of a few images."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from ontologies import OntologyError
from ontologies.taggers import Tags
from ontologies.taggers.language import PROMPT, LanguageTagger
from tests.support.tiny_language import Speaker, florence, qwen

COLOURS = ((220, 30, 30), (30, 200, 40), (40, 40, 230))
SIZES = ((48, 64), (64, 33), (24, 24))
IMAGES = [np.full((*size, 3), colour, dtype=np.uint8) for size, colour in zip(SIZES, COLOURS, strict=True)]
CHAT_ANSWERS = ("a dog, two cats", "1. Tree\n2. Boat", "?!")
CHAT_TAGS = [["cats", "dog"], ["boat", "tree"], []]
REGIONS = (
    "dog<loc_1><loc_2><loc_30><loc_31>red van<loc_3><loc_4><loc_5><loc_6><loc_0><loc_0><loc_9><loc_9>",
    "dog<loc_1><loc_2><loc_3><loc_4>dog<loc_5><loc_2><loc_3><loc_4>tr<loc_9><loc_9>",
    "nothing",
)
CAPTIONS = ("A dog and two cats on a sofa.", "a man walking down the street", "...")
REGION_TAGS = [["dog", "red van"], ["dog"], []]


def plain_inputs(processor: Any, image: Any, prompt: str) -> Any:
    """The inputs for one image, as in the model cards."""
    picture = PIL.Image.fromarray(image)
    if not processor.chat_template:
        return processor(text=prompt, images=picture, return_tensors="pt")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def plain_text(speaker: Speaker, image: Any, prompt: str, **options: Any) -> str:
    model, processor = speaker
    inputs = plain_inputs(processor, image, prompt)
    (sequence,) = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=80, **options)
    if processor.chat_template:
        sequence = sequence[inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(sequence, skip_special_tokens=False)


def teach(speaker: Speaker, answers: tuple[str, ...], prompt: str) -> Speaker:
    """Train a model to give the answer for each of ``IMAGES``."""
    model, processor = speaker
    lessons = []
    for image, answer in zip(IMAGES, answers, strict=True):
        inputs = dict(plain_inputs(processor, image, prompt))
        ids = processor.tokenizer(answer + processor.tokenizer.eos_token, add_special_tokens=False, return_tensors="pt")
        if not processor.chat_template:
            lessons.append(inputs | {"labels": ids.input_ids})
            continue
        silent = torch.full_like(inputs["input_ids"], -100)
        longer = {"input_ids": ids.input_ids, "attention_mask": ids.attention_mask}
        longer["mm_token_type_ids"] = torch.zeros_like(ids.input_ids)
        inputs |= {name: torch.cat([inputs[name], tail], dim=1) for name, tail in longer.items()}
        lessons.append(inputs | {"labels": torch.cat([silent, ids.input_ids], dim=1)})
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.0)
    model.train()
    for _ in range(300):
        losses = [model(**lesson).loss for lesson in lessons]
        optimizer.zero_grad()
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if max(losses) < 0.02:
            break
    return model.eval(), processor


@pytest.fixture(scope="module", params=["Qwen2VL", "Qwen2_5_VL"])
def chat(request: pytest.FixtureRequest) -> Speaker:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return teach(qwen(request.param), CHAT_ANSWERS, PROMPT)


@pytest.fixture(scope="module")
def detecting() -> Speaker:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return teach(florence(), REGIONS, "<OD>")


@pytest.fixture(scope="module")
def captioning() -> Speaker:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return teach(florence(), CAPTIONS, "<CAPTION>")


def names(tagged: list[Tags]) -> list[list[str]]:
    assert all(score == 1.0 for tags in tagged for _, score in tags)
    return [[name for name, _ in tags] for tags in tagged]


def test_a_chat_model_is_asked_as_its_card_shows(chat: Speaker) -> None:
    texts = [plain_text(chat, image, PROMPT) for image in IMAGES]
    assert texts == [f"{answer}<|im_end|>" for answer in CHAT_ANSWERS], "taught"
    tagger = LanguageTagger(*chat)
    assert names(tagger.tag(IMAGES)) == CHAT_TAGS
    assert tagger.unparsed == 1


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_images_do_not_change_each_other(batch_size: int, chat: Speaker) -> None:
    """Prompts of three lengths share a batch; with wrong or unmasked padding, the model gives another answer."""
    order = [2, 0, 1, 1, 0]
    tagger = LanguageTagger(*chat, batch_size=batch_size)
    assert len({plain_inputs(chat[1], image, PROMPT)["input_ids"].shape[1] for image in IMAGES}) == 3
    assert names(tagger.tag([IMAGES[index] for index in order])) == [CHAT_TAGS[index] for index in order]
    assert tagger.tag([]) == []


@pytest.mark.parametrize("other", [0, 1])
def test_logits_in_a_batch_equal_those_alone(other: int, chat: Speaker) -> None:
    model, _ = chat
    tagger = LanguageTagger(*chat)
    options = dict(max_new_tokens=4, do_sample=False, output_logits=True, return_dict_in_generate=True)
    pictures = [PIL.Image.fromarray(IMAGES[index]) for index in (2, other)]
    together, alone = (
        torch.stack(model.generate(**tagger._inputs(batch), **options).logits)[:, 0]
        for batch in (pictures, pictures[:1])
    )
    steps = min(len(together), len(alone))
    torch.testing.assert_close(together[:steps], alone[:steps], atol=1e-4, rtol=1e-4)


def test_florence_names_regions(detecting: Speaker) -> None:
    _, processor = detecting
    for image, region, tags in zip(IMAGES, REGIONS, REGION_TAGS, strict=True):
        text = plain_text(detecting, image, "<OD>")
        assert text == f"</s>{region}</s>", "taught"
        answer = processor.post_process_generation(text=text, task="<OD>", image_size=image.shape[1::-1])
        assert sorted(set(answer["<OD>"]["labels"])) == tags
    for batch_size in (1, 3):
        tagger = LanguageTagger(*detecting, batch_size=batch_size)
        assert names(tagger.tag(IMAGES)) == REGION_TAGS
        assert tagger.unparsed == 1


def test_florence_captions_are_read(captioning: Speaker) -> None:
    assert [plain_text(captioning, image, "<CAPTION>") for image in IMAGES] == [f"</s>{text}</s>" for text in CAPTIONS]
    tagger = LanguageTagger(*captioning, prompt="<CAPTION>")
    assert names(tagger.tag(IMAGES)) == [["cats", "dog", "sofa"], ["man", "street"], []]
    assert tagger.unparsed == 1


@pytest.mark.parametrize(("max_new_tokens", "tags"), [(3, []), (15, ["dog"]), (16, ["cats", "dog"])])
def test_an_incomplete_tag_is_dropped(max_new_tokens: int, tags: list[str], chat: Speaker) -> None:
    """16 tokens are "a dog, two cats" without an end, so "cats" may be incomplete."""
    tagger = LanguageTagger(*chat, max_new_tokens=max_new_tokens)
    assert names(tagger.tag(IMAGES[:1])) == [tags]


def test_sampling_settings_of_a_checkpoint_do_not_count(chat: Speaker) -> None:
    model, processor = chat
    model = copy.deepcopy(model)
    model.generation_config.update(do_sample=True, temperature=50.0, num_beams=3, num_return_sequences=2)
    assert names(LanguageTagger(model, processor).tag(IMAGES)) == CHAT_TAGS


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (900, 2), (3, 50)])
def test_images_of_any_shape_are_answered(size: tuple[int, int], chat: Speaker, detecting: Speaker) -> None:
    for speaker in (chat, detecting):
        assert len(LanguageTagger(*speaker, max_new_tokens=2).tag([np.zeros((*size, 3), np.uint8), IMAGES[0]])) == 2


def test_unsupported_prompts_are_refused(chat: Speaker, detecting: Speaker) -> None:
    with pytest.raises(OntologyError, match="no task 'List things'; its tasks are <OCR>, ") as raised:
        LanguageTagger(*detecting, prompt="List things")
    assert len(str(raised.value).splitlines()) == 1
    model, processor = chat
    mute = copy.copy(processor)
    mute.chat_template = None
    with pytest.raises(OntologyError, match=f"{model.config.model_type!r} has no chat template"):
        LanguageTagger(model, mute)
