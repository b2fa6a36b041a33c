"""What an adapter does on each family: one function a column of `docs/families.md`, on a tiny random model.

Each returns "yes", or why not: the refusal in its own words, or that the base alone does it no better. A value that is
wrong raises.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bases import VOCABULARY, adapt, without_zeros
from family_bases import family_base
from peft import PeftModel
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedModel

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel
from hylorada.export import export_peft
from hylorada.loss import causal_lm_loss

WHOLE = HyLoRADAConfig(lora_rank=2, lora_dropout=0.0, use_dora_magnitude=True)
IN_WEIGHTS = HyLoRADAConfig(
    lora_rank=2, lora_dropout=0.0, use_dora_magnitude=True, position_bias_enabled=False, landmark_enabled=False
)
NEUTRAL = HyLoRADAConfig(lora_rank=2, use_dora_magnitude=True, landmark_enabled=False)
CLOSE = dict(rtol=1e-3, atol=1e-4)
NEW = 4  # tokens


def ids(rows: int = 2, length: int = 12, seed: int = 5) -> Tensor:
    """Random token ids (rows, length), none of them special."""
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def left_padded() -> tuple[Tensor, Tensor]:
    """Two rows and their mask (2, 12), the second with five tokens of padding."""
    rows, mask = ids(), torch.ones(2, 12, dtype=torch.long)
    rows[1, :5], mask[1, :5] = 0, 0
    return rows, mask


def builds(family: str) -> str:
    """A fresh adapter leaves logits as they were, under a mask too, and a trained one acts."""
    base, all_real = family_base(family), torch.ones_like(ids())
    bare = base(ids()).logits
    with_mask = base(input_ids=ids(), attention_mask=all_real).logits
    model = adapt(base, NEUTRAL)
    assert_close(model(ids()).logits, bare, **CLOSE)
    assert_close(model(input_ids=ids(), attention_mask=all_real).logits, with_mask, **CLOSE)
    model = without_zeros(adapt(family_base(family), WHOLE))
    assert model(ids()).logits.isfinite().all() and not torch.allclose(model(ids()).logits, bare, **CLOSE)
    return "yes"


def trains(family: str) -> str:
    """Loss and gradient are those of the model's own loss, with blocks that run again after a pass elsewhere."""
    model = without_zeros(adapt(family_base(family), WHOLE)).train()
    rows, mask = left_padded()
    trained = model.trainable_parameters()
    own = model(input_ids=rows, attention_mask=mask, labels=rows).loss
    wanted = torch.autograd.grad(own, trained)
    if model.base_model.supports_gradient_checkpointing:
        model.base_model.activation_checkpointing_enable()
    loss = causal_lm_loss(model, rows, mask, chunk_tokens=5)
    with torch.no_grad():
        model(ids(3, 7))  # a block that runs again must not take the positions of this pass
    got = torch.autograd.grad(loss, trained)
    assert_close(loss, own, **CLOSE)
    assert_close(got, wanted, **CLOSE)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    dead = [name for name, slope in zip(names, got, strict=True) if not slope.any()]
    assert not dead, f"no gradient reaches {dead}"
    return "yes"


def saves_and_loads(family: str) -> str:
    """A loaded adapter computes what the saved one did."""
    model = without_zeros(adapt(family_base(family), WHOLE))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "adapter")
        again = HyLoRADAModel.from_pretrained(family_base(family), Path(folder) / "adapter").eval()
    assert torch.equal(again(ids()).logits, model(ids()).logits)
    return "yes"


def generates(family: str) -> str:
    """Cached tokens and their logits are those without a cache, under left padding too."""
    return _or_as_the_base(family, _generates)


def left_padding(family: str) -> str:
    """Padding on the left moves no logit of a real token."""
    return _or_as_the_base(family, _pads)


def merges(family: str) -> str:
    """What weights can hold goes into them, without what they cannot hold or beside it."""
    for config, keep in ((IN_WEIGHTS, False), (WHOLE, True)):
        model = without_zeros(adapt(family_base(family), config))
        before = model(ids()).logits
        assert_close(model.merge_and_unload(keep_dynamic=keep)(ids()).logits, before, **CLOSE)
    return "yes"


def exports(family: str) -> str:
    """PEFT reads the exported adapter and gives its logits."""
    model = without_zeros(adapt(family_base(family), IN_WEIGHTS))
    with tempfile.TemporaryDirectory() as folder:
        export_peft(model, Path(folder) / "theirs")
        theirs = PeftModel.from_pretrained(family_base(family), Path(folder) / "theirs").eval()
    assert_close(theirs(ids()).logits, model(ids()).logits, **CLOSE)
    return "yes"


COLUMNS: dict[str, Callable[[str], str]] = {
    "builds": builds,
    "trains": trains,
    "saves and loads": saves_and_loads,
    "generates cached = uncached": generates,
    "left padding": left_padding,
    "merges": merges,
    "exports to PEFT": exports,
}


def measure(family: str) -> dict[str, str]:
    """Return every column's answer; what does not build is not asked further."""
    try:
        answers = {"builds": builds(family)}
    except HyLoRADAError as refusal:
        return {"builds": str(refusal)}
    for column, ask in COLUMNS.items():
        if column not in answers:
            try:
                answers[column] = ask(family)
            except HyLoRADAError as refusal:
                answers[column] = str(refusal)
    return answers


def _or_as_the_base(family: str, check: Callable[[PreTrainedModel | HyLoRADAModel], None]) -> str:
    try:
        check(without_zeros(adapt(family_base(family), WHOLE)))
    except AssertionError:
        try:
            check(family_base(family))
        except AssertionError:
            return "no; nor does the base alone"
        raise
    return "yes"


def _generates(model: PreTrainedModel | HyLoRADAModel) -> None:
    rows, mask = left_padded()
    settings = dict(min_new_tokens=NEW, max_new_tokens=NEW, do_sample=False, pad_token_id=0)
    settings |= dict(return_dict_in_generate=True, output_logits=True)
    outputs = [model.generate(rows, attention_mask=mask, use_cache=cached, **settings) for cached in (True, False)]
    cached, uncached = (torch.stack(output.logits) for output in outputs)  # (NEW, batch, vocab)
    assert_close(cached, uncached, **CLOSE)


@torch.no_grad()
def _pads(model: PreTrainedModel | HyLoRADAModel) -> None:
    rows, mask = left_padded()
    padded = model(input_ids=rows, attention_mask=mask).logits[1, 5:]
    assert_close(padded, model(input_ids=rows[1:, 5:]).logits[0], **CLOSE)
