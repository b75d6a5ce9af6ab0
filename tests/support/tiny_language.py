"""Tiny vision-language models with random weights."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Speaker = tuple[Any, Any]


def tokenizer(specials: tuple[str, ...], **roles: Any) -> Any:
    """A tokenizer with a token for each byte, and special tokens."""
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    plain = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens(list(specials))
    return PreTrainedTokenizerFast(tokenizer_object=plain, **roles)


def qwen(family: str) -> Speaker:
    import transformers

    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
    words = tokenizer((*specials, "<|image_pad|>", "<|video_pad|>"), eos_token="<|im_end|>", pad_token="<|endoftext|>")
    identify = words.convert_tokens_to_ids
    vision = dict(depth=2, num_heads=2, patch_size=8, in_channels=3)
    if family == "Qwen2VL":
        vision |= dict(embed_dim=32, hidden_size=32, mlp_ratio=2)
    else:
        vision |= dict(hidden_size=32, out_hidden_size=32, intermediate_size=64, window_size=32)
        vision |= dict(fullatt_block_indexes=[1])
    config = getattr(transformers, f"{family}Config")(
        vision_config=vision,
        text_config=dict(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=512, eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id, bos_token_id=None,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        ),
        image_token_id=identify("<|image_pad|>"), video_token_id=identify("<|video_pad|>"),
        vision_start_token_id=identify("<|vision_start|>"), vision_end_token_id=identify("<|vision_end|>"),
    )  # fmt: skip
    sides = {"size": {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}, "patch_size": 8}
    processor = transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(**sides),
        words,
        transformers.Qwen2VLVideoProcessor(**sides),
        chat_template=CHAT_TEMPLATE,
    )
    return getattr(transformers, f"{family}ForConditionalGeneration")(config), processor


def florence() -> Speaker:
    from transformers import CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    specials = ("<s>", "</s>", "<pad>", "<image>", *(f"<loc_{index}>" for index in range(32)))
    words = tokenizer(
        specials, bos_token="<s>", eos_token="</s>", pad_token="<pad>", extra_special_tokens={"image_token": "<image>"}
    )
    config = Florence2Config(
        vision_config=dict(
            depths=[1, 1], patch_size=[7, 3], patch_stride=[4, 2], patch_padding=[3, 1], patch_prenorm=[False, True],
            embed_dim=[16, 32], num_heads=[2, 2], num_groups=[2, 2], window_size=4, projection_dim=32,
            drop_path_rate=0.0,
        ),
        text_config=dict(
            model_type="bart", vocab_size=len(words), d_model=32, encoder_layers=1, decoder_layers=2,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0,
            max_position_embeddings=256, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id, decoder_start_token_id=words.eos_token_id,
            forced_eos_token_id=words.eos_token_id,
        ),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        decoder_start_token_id=words.eos_token_id,
    )  # fmt: skip
    image_processor = CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    image_processor.image_seq_length = 17
    tasks = {"description_with_bboxes": {}, "pure_text": {}}
    return Florence2ForConditionalGeneration(config), Florence2Processor(
        image_processor, words, post_processor_config=tasks
    )
