"""Tokens: blocks, articles and lines of a text, whole and in their splits."""

import shutil

import numpy as np
import pytest
from small_runs import SMOKE
from tokenizers.processors import TemplateProcessing

from hylorada import HyLoRADAError
from hylorada.study.sources import encode as encoding
from hylorada.study.sources.encode import tokens_path
from hylorada.study.sources.lines import Lines
from hylorada.study.sources.tiny import byte_tokenizer
from hylorada.study.sources.tokens import encode, read_tokens, write_tokens


def test_blocks_are_whole_spread_over_the_text_and_hold_every_token_in_order(data):
    text = read_tokens(tokens_path(SMOKE.base, SMOKE.corpus, data))
    every = text.train_blocks(64, None)
    stream = np.concatenate([np.append(ids, text.end) for ids in text.articles["train"]])
    assert np.array_equal(np.concatenate(every), stream[: 64 * len(every)])
    some = text.train_blocks(64, 512)
    places = [next(i for i, block in enumerate(every) if np.array_equal(block, b)) for b in some]
    assert len(some) == 8 and np.ptp(np.diff(places)) <= 1 and places[-1] > 0.8 * len(every)
    with pytest.raises(HyLoRADAError, match="are asked for"):
        text.train_blocks(64, 64 * (len(every) + 1))


def test_train_and_test_articles_do_not_meet(data):
    text = read_tokens(tokens_path(SMOKE.base, SMOKE.corpus, data))
    splits = {name: {ids.tobytes() for ids in articles} for name, articles in text.articles.items()}
    assert not splits["train"] & splits["test"] and not splits["train"] & splits["validation"]


class Letters:
    """A tokenizer with one token a character, as far as `encode` asks it."""

    eos_token_id = 0

    def __call__(self, texts: list[str], **options) -> dict:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


TEXTS = {
    "train": ["", "ab\n\ncd e", "f"],  # a blank article, one with a blank line, one of a line
    "validation": ["g"],
    "test": ["hij", "k"],
}


def test_token_files_hold_articles_and_lines_and_are_read_strictly(tmp_path):
    path = tmp_path / "t.npz"
    write_tokens(path, encode(Letters(), TEXTS), sources={"base": {"name": "x"}})
    text = read_tokens(path)

    def spell(ids) -> str:
        return "".join(map(chr, ids))

    assert [spell(ids) for ids in text.articles["train"]] == ["ab\n\ncd e", "f"]
    assert [spell(ids) for ids in text.held_out("test", 1, 2)] == ["hi"]
    lines = text.lines["train"]
    assert [spell(lines[n]) for n in range(len(lines.ends))] == ["", "ab\n", "", "cd e\n", "f\n"]
    assert lines.article.tolist() == [0, 0, 0, 0, 1]  # the blank article's line counts to the first
    assert lines.characters.tolist() == [0, 3, 0, 5, 2] and lines.stripped.tolist() == [0, 2, 0, 4, 1]
    ids, articles = text.protocol_lines(Lines("train", 2, longer_than=2))
    assert [spell(line) for line in ids] == ["ab\n", "cd e\n"] and articles.tolist() == [0, 0]
    with pytest.raises(HyLoRADAError, match="train text has 5 lines and 6 are asked for"):
        text.protocol_lines(Lines("train", 6))
    with pytest.raises(HyLoRADAError, match="run `hylorada tokens` first"):
        read_tokens(tmp_path / "none.npz")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(HyLoRADAError, match="or no token file"):
        read_tokens(path)


def test_a_base_that_expects_a_beginning_is_told_to_have_none_here(data, tmp_path, monkeypatch, caplog):
    plain = byte_tokenizer(64)
    assert not encoding.begins_texts(plain)
    begun = byte_tokenizer(64)
    special = [(begun.bos_token, begun.bos_token_id)]
    begun.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begun.bos_token} $A", special_tokens=special)
    assert encoding.begins_texts(begun)
    shutil.copytree(data, tmp_path / "data")
    monkeypatch.setattr(encoding, "begins_texts", lambda tokenizer: True)
    encoding.make_tokens(SMOKE.base, SMOKE.corpus, tmp_path / "data")
    (told,) = caplog.messages
    assert told.startswith(f"{SMOKE.base} expects {begun.bos_token} in front of a text")
