"""Where the token file of `tokens.py` lies, and making it from a fetched corpus and a fetched model's tokenizer.

What a folder's `source.json` says may itself have been changed, so texts are held to more where there is more: to the
digests that a corpus is pinned by, or to the texts that are shipped. Of the hub's, of a user's own folder and of a
model's weights and tokenizer no file is pinned here: they are held to their `source.json` alone.
"""

import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError
from hylorada.fetched import hold_fetched
from hylorada.study.sources.fetch import load_corpus
from hylorada.study.sources.identity import corpus_folder, model_folder, sample_files, source_identity
from hylorada.study.sources.registry import SampleCorpus, find_corpus
from hylorada.study.sources.splits import SPLITS
from hylorada.study.sources.texts import read_files
from hylorada.study.sources.tokens import encode, write_tokens

LOG = logging.getLogger(__name__)


def tokens_path(base: str, corpus: str, data: Path) -> Path:
    """Where the tokens of a corpus under a base model's tokenizer lie."""
    return Path(data) / "tokens" / f"{model_folder(base, data).name}--{corpus_folder(corpus, data).name}.npz"


def begins_texts(tokenizer: Any) -> bool:
    """Tell whether a tokenizer by itself puts its beginning-of-text token in front of a text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def make_tokens(base: str, corpus: str, data: Path) -> Path:
    """Encode every article of a corpus; return the file.

    Raises:
        HyLoRADAError: model or corpus is not fetched or is another one now, its texts are not those that are pinned,
            or `tokens.encode` refuses.
    """
    from hylorada.load import load_tokenizer

    folders = {"base": model_folder(base, data), "corpus": corpus_folder(corpus, data)}
    sources = {"base": source_identity("model", base), "corpus": source_identity("corpus", corpus)}
    for kind, folder in folders.items():
        if hold_fetched(folder)["identity"] != sources[kind]:
            raise HyLoRADAError(f"{folder} does not hold the {kind} asked for; run `hylorada fetch` first.")
    tokenizer = load_tokenizer(folders["base"])
    if begins_texts(tokenizer):
        told = "%s expects %s in front of a text, and the study's texts have none: untouched it does worse than it can"
        LOG.warning(told, base, tokenizer.bos_token)
    splits = load_corpus(folders["corpus"])
    texts = {split: list(splits[split]["text"]) for split in SPLITS}
    if not is_pinned_text(corpus, sources["corpus"], texts):
        told = "remove the folder and run `hylorada fetch`"
        raise HyLoRADAError(f"{folders['corpus']} holds other texts than those that {corpus} is pinned to; {told}.")
    columns = encode(tokenizer, texts)
    path = tokens_path(base, corpus, data)
    write_tokens(path, columns, sources)
    return path


def is_pinned_text(corpus: str, identity: Mapping[str, Any], texts: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether a corpus's texts, by split, are those that it is pinned to; of one without a pin any are.

    identity: its `source_identity`.
    """
    if pinned := identity.get("text_sha256"):
        return pinned == {split: sha256("\x00".join(texts[split]).encode()).hexdigest() for split in SPLITS}
    if isinstance(row := find_corpus(corpus), SampleCorpus):
        return {split: part["text"] for split, part in read_files(sample_files(row)).items()} == texts
    return True
