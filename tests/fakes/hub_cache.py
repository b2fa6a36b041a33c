"""What the hub's library keeps of `openai-community/gpt2` and `Salesforce/wikitext`, with a tiny model and tiny texts.

The layout is the real one: file names, keys of the weights, columns, row forms and the card's list of configurations.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel

from hylorada.study.sources.tiny import byte_tokenizer

CONTEXT, HIDDEN, LAYERS = 64, 32, 2
END = "<|endoftext|>"
GPT2_CONFIG = {  # keys as in the hub's file; the sizes alone are ours
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 256,
    "embd_pdrop": 0.1,
    "eos_token_id": 256,
    "initializer_range": 0.1,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": CONTEXT,
    "n_embd": HIDDEN,
    "n_head": 4,
    "n_layer": LAYERS,
    "n_positions": CONTEXT,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 257,
}
GENERATION_CONFIG = {
    "bos_token_id": 256,
    "eos_token_id": 256,
    "transformers_version": "4.26.0.dev0",
    "_from_model_config": True,
}
PARTS = {"train": 6, "validation": 4, "test": 2}  # articles


def write_gpt2(folder: Path, older: bool = False) -> None:
    """Write a random GPT-2 in float32: weights without prefix and output layer, but with the attention's old masks.

    older: in the form of other checkpoints of the family, with prefix, output layer and the masks' constant too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(**GPT2_CONFIG))
    tensors = {
        name.removeprefix("transformer."): tensor.clone()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    mask = torch.ones(CONTEXT, CONTEXT).tril().view(1, 1, CONTEXT, CONTEXT)
    tensors |= {f"h.{layer}.attn.bias": mask.clone() for layer in range(LAYERS)}
    if older:
        tensors |= {f"h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(LAYERS)}
        tensors = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    vocabulary = byte_tokenizer(CONTEXT).backend_tokenizer.get_vocab(with_added_tokens=False) | {END: 256}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.add_special_tokens([END])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": CONTEXT}))
    (folder / "config.json").write_text(json.dumps(GPT2_CONFIG, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG))


def article(number: int) -> list[str]:
    """Return the rows of an article as WikiText has them, awkward ones included."""
    return [
        "",
        f" = Article {number} = \n",
        "",
        f" The {number} th article is about the number {number} , which follows {number - 1} @-@ fold on the road . \n"
        * 1,
        " = 2 \n",
        " A formula ended in the line above ; and after it words go on for more than one hundred characters . \n",
        "",
        " = = Section = = \n",
        "",
        "",
        f" = = = Years of {number} = = = \n",
        "",
        f" It was {1900 + number} when the river rose and the bridge of {number} arches was built anew , in brick and "
        "in stone . \n",
        "",
    ]


def rows(part: str) -> list[str]:
    """Return the rows of a split."""
    first = 10 * list(PARTS).index(part)
    return [row for number in range(first, first + PARTS[part]) for row in article(number)]


def write_wikitext(folder: Path, configurations: tuple[str, ...] = ("wikitext-2-raw-v1",), shards: int = 1) -> None:
    """Write a data set's card and, for each configuration, a sub-folder with the parquet shards of three splits."""
    from datasets import Dataset

    folder.mkdir(parents=True, exist_ok=True)
    for name in configurations:
        (folder / name).mkdir()
        for part in PARTS:
            data = Dataset.from_dict({"text": rows(part)})
            for index in range(shards):
                path = folder / name / f"{part}-{index:05d}-of-{shards:05d}.parquet"
                data.shard(shards, index, contiguous=True).to_parquet(str(path))
    (folder / "README.md").write_text(card())


def card() -> str:
    """Return a card that lists all four configurations of the data set, whichever are in the cache."""
    names = ("wikitext-103-raw-v1", "wikitext-103-v1", "wikitext-2-raw-v1", "wikitext-2-v1")
    lines = ["---", "language:", "- en", "pretty_name: WikiText", "dataset_info:"]
    for name in names:
        lines += [f"- config_name: {name}", "  features:", "  - name: text", "    dtype: string", "  splits:"]
        for part in ("test", "train", "validation"):
            lines += [f"  - name: {part}", "    num_bytes: 1", f"    num_examples: {len(rows(part))}"]
    lines.append("configs:")
    for name in names:
        lines += [f"- config_name: {name}", "  data_files:"]
        for part in ("test", "train", "validation"):
            lines += [f"  - split: {part}", f"    path: {name}/{part}-*"]
    return "\n".join([*lines, "---", "", '# Dataset Card for "wikitext"', ""])


def put_in_cache(home: Path, kind: str, repository: str, revision: str, write: Callable[[Path], None]) -> Path:
    """Put what `write` writes into the cache of a hub's home folder as its library does; return the snapshot folder.

    kind: "models" or "datasets". Contents lie under `blobs` by their digest, and a snapshot holds links to them.
    """
    storage = home / "hub" / f"{kind}--{repository.replace('/', '--')}"
    snapshot = storage / "snapshots" / revision
    write(snapshot)
    (storage / "blobs").mkdir()
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(revision)
    for path in [path for path in snapshot.rglob("*") if path.is_file()]:
        blob = storage / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        path.symlink_to(blob)
    return snapshot
