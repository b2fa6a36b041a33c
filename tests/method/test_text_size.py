"""Bytes of a text are bytes of the text, however its tokens cut them."""

import numpy as np
import pytest
from repository import ROOT
from scored_texts import letters
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hylorada.evaluation import dataset_nll, run_full_evaluation, token_nll
from hylorada.study.sources.tiny import byte_tokenizer
from hylorada.text_size import size_of_scored

TEXTS = ["🌊 wave", "مرحبا", "नमस्ते", "海", "naïve\u2028e\u0301 a\ufffdb", "plain words only"]


def byte_level_with_merges() -> PreTrainedTokenizerFast:
    """Byte-level BPE learned from the very texts, so that tokens cut across characters, and a word that was added."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(TEXTS, BpeTrainer(vocab_size=275, initial_alphabet=alphabet, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
    tokenizer.add_tokens([AddedToken("wave", normalized=False)])
    return tokenizer


def with_byte_fallback() -> PreTrainedTokenizerFast:
    """Letters, spaces as "▁" and one in front that is no text; all else falls back to bytes, as in Llama 2."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    merged = ["▁w", "▁wo", "▁p", "▁pl"]
    vocabulary = {piece: i for i, piece in enumerate(pieces + merged)}
    merges = [(piece[:-1], piece[-1]) for piece in merged]
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    replace, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    core.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


TOKENIZERS = {
    "bytes": byte_tokenizer(64),
    "merges": byte_level_with_merges(),
    "fallback": with_byte_fallback(),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_any_cut_of_the_tokens_shares_out_the_bytes_of_the_text(kind, text):
    """With the text or without: scored and unscored tokens, wherever they lie, add up to all of it."""
    tokenizer, length = TOKENIZERS[kind], len(text.encode())
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    everywhere, generator = np.arange(len(ids)), np.random.default_rng(0)
    assert size_of_scored(ids, everywhere, tokenizer) == (length, len(text.split()))
    for first in range(len(ids)):
        for scored in (everywhere[first:], everywhere[:first], everywhere[generator.random(len(ids)) < 0.5]):
            rest = np.setdiff1d(everywhere, scored)
            parts = [size_of_scored(ids, part, tokenizer)[0] for part in (scored, rest)]
            assert sum(parts) == length and min(parts) >= 0
            assert size_of_scored(ids, scored, tokenizer, text)[0] == parts[0]


@pytest.mark.parametrize("kind", ["bytes", "merges"])
def test_a_token_of_a_byte_level_tokenizer_counts_its_own_bytes(kind):
    for text in TEXTS:
        tokens = TOKENIZERS[kind].tokenize(text)
        ids = np.array(TOKENIZERS[kind].convert_tokens_to_ids(tokens))
        sizes = [size_of_scored(ids, np.array([i]), TOKENIZERS[kind])[0] for i in range(len(ids))]
        assert sizes == [len(token) for token in tokens]


@pytest.mark.parametrize("kind", ["bytes", "merges"])
def test_where_no_character_is_split_the_bytes_are_those_of_the_decoded_tokens(kind):
    """So they were counted before, and kept records hold them."""
    for path in sorted((ROOT / "data/sample").glob("*.txt")):
        text = path.read_text(encoding="utf-8")[:600]
        ids = np.array(TOKENIZERS[kind](text)["input_ids"])
        decoded, scored = TOKENIZERS[kind].decode(ids[1:]), np.arange(1, len(ids))
        assert "\ufffd" not in decoded
        for known in (None, text):
            sizes = size_of_scored(ids, scored, TOKENIZERS[kind], known)
            assert sizes == (len(decoded.encode()), len(decoded.split()))


def test_the_space_before_the_first_scored_token_is_text():
    tokenizer = TOKENIZERS["fallback"]
    ids = np.array(tokenizer("wo pl", add_special_tokens=False)["input_ids"])
    assert tokenizer.decode(ids[1:]) == "pl"
    assert size_of_scored(ids, np.arange(1, len(ids)), tokenizer) == (len(" pl"), 1)


def test_signs_that_a_tokenizer_does_not_know_are_bytes_of_the_text_and_special_tokens_are_not():
    tokenizer, text = letters(), "aЖ ж</s> b"  # the Cyrillic letters become its unknown token
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert size_of_scored(ids, np.arange(1, len(ids)), tokenizer, text)[0] == len("Ж ж b".encode())
    with_bos = np.array([tokenizer.bos_token_id, *ids])
    assert size_of_scored(with_bos, np.arange(1, len(with_bos)), tokenizer, text) == (len("aЖ ж b".encode()), 3)


def test_bits_per_byte_of_split_characters_are_over_the_bytes_of_the_text():
    sizes = dict(vocab_size=257, hidden_size=16, intermediate_size=16, max_position_embeddings=64)
    config = LlamaConfig(**sizes, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
    model, tokenizer = LlamaForCausalLM(config).eval(), TOKENIZERS["bytes"]
    model.lm_head.weight.data.zero_()  # all 257 tokens are alike, and each scored one is a byte
    texts = TEXTS[:4] * 10
    scored = run_full_evaluation(model, texts, tokenizer, progress=False)
    assert scored["bytes"] == scored["scored_tokens"] == 360
    assert scored["bits_per_byte"] == pytest.approx(np.log2(257))
    lists = [tokenizer(text)["input_ids"] for text in texts]
    assert token_nll(model, lists, tokenizer=tokenizer, progress=False).text_bytes.sum() == 360
    for options in ({"add_bos": True}, {"join": True}, {"join": True, "max_length": 7}):
        tokens = dataset_nll(model, texts, tokenizer, **options, progress=False)
        assert tokens.text_bytes.sum() == len(tokens.nll)
