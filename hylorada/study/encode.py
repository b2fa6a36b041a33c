"""From a fetched corpus and a fetched model's tokenizer to the token file of `tokens.py`."""

from pathlib import Path

from hylorada.errors import HyLoRADAError
from hylorada.study.sources import corpus_folder, load_corpus, model_folder
from hylorada.study.tokens import SPLITS, write_tokens


def tokens_path(base: str, corpus: str, data: Path) -> Path:
    """Where the tokens of a corpus under a base model's tokenizer lie."""
    return Path(data) / "tokens" / f"{model_folder(base, data).name}--{corpus_folder(corpus, data).name}.npz"


def make_tokens(base: str, corpus: str, data: Path) -> Path:
    """Encode every article of a corpus, blank ones dropped; return the file.

    Raises:
        HyLoRADAError: model or corpus is not fetched, a split has no text, or the tokenizer has no end token.
    """
    from transformers import AutoTokenizer

    folder = model_folder(base, data)
    if not (folder / "source.json").is_file():
        raise HyLoRADAError(f"{folder} holds no fetched model; run `hylorada fetch` first.")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.eos_token_id is None:
        raise HyLoRADAError(f"the tokenizer of {base!r} has no end token to put between articles.")
    corpus_splits = load_corpus(corpus_folder(corpus, data))
    articles = {}
    for split in SPLITS:
        texts = [text for text in corpus_splits[split]["text"] if text.strip()]
        if not texts:
            raise HyLoRADAError(f"the {split} split of {corpus!r} has no text.")
        # verbose: whole articles exceed the model's context, which the tokenizer would warn of
        articles[split] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    path = tokens_path(base, corpus, data)
    write_tokens(path, articles, tokenizer.eos_token_id)
    return path
