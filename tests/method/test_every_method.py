"""Every claim of the method, for every stage of the ablation, design and method, on three families of base models."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from bases import FAMILIES, VOCABULARY, adapt, tokens, without_zeros

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel
from hylorada.baselines import METHODS, method_config
from hylorada.study.plan.ablation import SMALL_LANDMARKS, STAGES


@dataclass(frozen=True)
class Row:
    """What a claim needs to know: see `hylorada.study.plan.rows.Row`."""

    adapter: HyLoRADAConfig | None
    not_neutral: str = ""
    stays: tuple[str, ...] = ()


SMALL_GROUPS = HyLoRADAConfig(s2_group_size=8)
PLAIN = method_config("rslora", SMALL_GROUPS)
STACK = STAGES["landmarks"]
DESIGNS = {  # the other landmark designs, on the same stack as the ablation's
    f"{design}-{pooling}": Row(
        replace(STACK.adapter, landmark_design=design, landmark_pooling=pooling), STACK.not_neutral, STACK.stays
    )
    for design in ("original", "per_layer")
    for pooling in ("causal", "sequence")
} | {"constant": Row(replace(STACK.adapter, landmark_design="constant"), stays=STACK.stays)}
BASELINES = {
    f"method-{name}": Row(method_config(name, SMALL_GROUPS), m.not_neutral, m.stays) for name, m in METHODS.items()
}
TURNED = {  # rotary positions, turned further apart or closer together
    f"rope-{kind}": Row(
        replace(PLAIN, rope_scaling_type=kind, rope_scaling_factor=2.0), "" if kind == "dynamic" else "angles"
    )
    for kind in ("linear", "dynamic", "yarn")
}
OTHERS = {
    "bias-alone": Row(replace(PLAIN, lora_enabled=False, position_bias_enabled=True), stays=("position_bias",)),
    "bias-on-update": Row(
        replace(PLAIN, position_bias_enabled=True, position_bias_on="update"), stays=("position_bias",)
    ),
    "everything": Row(
        HyLoRADAConfig(
            use_dora_magnitude=True,
            landmark_design="learnable_bucket",
            s2_attn_enabled=True,
            s2_group_size=8,
            s2_sink_tokens=2,
            daa_enabled=True,
            sparse_enabled=True,
            train_embeddings=True,
            train_norms=True,
        ),
        SMALL_LANDMARKS,
        ("position_bias", "landmark", "daa", "sparse"),
    ),
}
SEE_THE_FUTURE = [name for name in DESIGNS if name.endswith("sequence")]
ROWS = STAGES | DESIGNS | BASELINES | TURNED | OTHERS
CLOSE = dict(rtol=1e-4, atol=1e-4)


BIASED = ("base", "rslora", "magnitude", "position_bias", "bias-on-update", "everything")  # where b of a Linear enters


def on_families(names: list[str]) -> list[tuple[str, str]]:
    """Rows by family; GPT-2 has no rotary positions, and Qwen2 is Llama but for the biases of its projections."""
    rows = {"gpt2": [name for name in names if name not in TURNED], "qwen2": [n for n in names if n in BIASED]}
    return [(family, name) for family in FAMILIES for name in rows.get(family, names)]


adapted = pytest.mark.parametrize("family,stage", on_families([n for n in ROWS if ROWS[n].adapter is not None]))
causal = pytest.mark.parametrize("family,stage", on_families([n for n in ROWS if n not in SEE_THE_FUTURE]))
cached = pytest.mark.parametrize("family,stage", on_families([n for n in ROWS if n not in (*SEE_THE_FUTURE, "base")]))
foreseeing = pytest.mark.parametrize("family,stage", on_families(SEE_THE_FUTURE))


def fresh(family: str, stage: str, **changes) -> HyLoRADAModel:
    config = HyLoRADAConfig.from_dict(ROWS[stage].adapter.to_dict() | changes)
    return adapt(FAMILIES[family](), config)


def trained(family: str, stage: str, **changes) -> HyLoRADAModel:
    return without_zeros(fresh(family, stage, **changes))


def subject(family: str, stage: str) -> torch.nn.Module:
    """The model a stage is about: the bare base model for stage 0."""
    return FAMILIES[family]() if stage == "base" else trained(family, stage)


@adapted
def test_a_fresh_adapter_leaves_the_base_as_it_was_or_its_row_says_why_not(family, stage):
    ids = tokens()
    before = FAMILIES[family]()(ids).logits
    after = fresh(family, stage)(ids).logits
    if ROWS[stage].not_neutral:
        assert 0 < (after - before).abs().max() < 1.0
    else:
        assert torch.equal(after, before)


@adapted
def test_no_part_is_dead(family, stage):
    model = trained(family, stage).train()
    model(tokens(), labels=tokens()).loss.backward()
    dead = [n for n, p in model.adapter_tensors().items() if p.grad is None or not p.grad.any()]
    assert not dead, f"stage {stage!r} trains parameters that no gradient reaches: {dead}"


@adapted
def test_only_the_adapter_gets_gradients(family, stage):
    model = trained(family, stage)
    model(tokens(), labels=tokens()).loss.backward()
    own = set(model.adapter_tensors())
    assert own == {n for n, p in model.named_parameters() if p.grad is not None}
    assert not any(n.endswith("base_layer.weight") for n in own)


def with_another_end(ids: torch.Tensor) -> torch.Tensor:
    """The same tokens up to the 15th, others from there on."""
    return torch.cat([ids[:, :15], ids[:, 15:] % (VOCABULARY - 1) + 1], dim=1)


@causal
def test_a_later_token_never_moves_an_earlier_logit(family, stage):
    model, ids = subject(family, stage), tokens()
    changed = with_another_end(ids)
    torch.testing.assert_close(model(changed).logits[:, :15], model(ids).logits[:, :15], **CLOSE)
    assert not torch.allclose(model(changed).logits[:, 15:], model(ids).logits[:, 15:], atol=1e-2)


@foreseeing
def test_designs_that_pool_the_sequence_see_the_future_and_refuse_cached_generation(family, stage):
    model, ids = trained(family, stage), tokens()
    seen = model(with_another_end(ids)).logits[:, :15] - model(ids).logits[:, :15]
    assert seen.abs().max() > 1e-3
    settings = dict(max_new_tokens=3, do_sample=False, pad_token_id=0)
    with pytest.raises(HyLoRADAError, match="future included"):
        model.generate(ids, use_cache=True, **settings)
    assert model.generate(ids, use_cache=False, **settings).shape[1] > ids.shape[1]


@adapted
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_moves_neither_the_loss_nor_the_logits_of_real_tokens(family, stage, side):
    model, ids, pad = trained(family, stage), tokens(), 5
    filler = torch.full((len(ids), pad), 7)
    padded = torch.cat([filler, ids] if side == "left" else [ids, filler], dim=1)
    mask = torch.ones_like(padded)
    real = slice(pad, None) if side == "left" else slice(None, -pad)
    mask[:] = 0
    mask[:, real] = 1
    plain = model(ids, labels=ids)
    with_padding = model(padded, attention_mask=mask, labels=padded.masked_fill(mask == 0, -100))
    torch.testing.assert_close(with_padding.logits[:, real], plain.logits, **CLOSE)
    torch.testing.assert_close(with_padding.loss, plain.loss, **CLOSE)


@adapted
def test_rows_of_different_length_do_not_disturb_each_other(family, stage):
    """One batch, two lengths, padded on the left: each row gives what it gives alone."""
    model, ids = trained(family, stage), tokens(2, 20)
    mask = torch.ones_like(ids)
    mask[1, :8] = 0
    together = model(ids, attention_mask=mask).logits
    torch.testing.assert_close(together[0], model(ids[:1]).logits[0], **CLOSE)
    torch.testing.assert_close(together[1, 8:], model(ids[1:, 8:]).logits[0], **CLOSE)


@causal
@pytest.mark.parametrize("chunk", [1, 5])
def test_cached_passes_give_the_logits_of_one_whole_pass(family, stage, chunk):
    model, ids = subject(family, stage), tokens()
    whole, cache, pieces = model(ids).logits, None, []
    for piece in ids.split(chunk, dim=1):
        out = model(piece, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        pieces.append(out.logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **CLOSE)


@cached
def test_cached_generation_with_left_padding_equals_uncached(family, stage):
    model, ids = trained(family, stage), tokens(2, 12)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    settings = dict(attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    cached = model.generate(ids, use_cache=True, **settings)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **settings))
    alone = model.generate(ids[1:, 4:], **settings | {"attention_mask": mask[1:, 4:]})
    assert torch.equal(cached[1, 12:], alone[0, 8:])


@adapted
def test_gradients_under_checkpointing_equal_those_without(family, stage):
    """Two forwards of unlike lengths before one backward: a block that runs again must not see stale positions."""
    gradients = []
    for checkpointing in (False, True):
        model = trained(family, stage, gradient_checkpointing=checkpointing, lora_dropout=0.0).train()
        mask = torch.ones(2, 30, dtype=torch.long)
        mask[0, slice(-9, None) if model.hylorada_config.s2_attn_enabled else slice(9)] = 0  # S²-Attn: on the right
        first = model(tokens(2, 30, seed=5), attention_mask=mask, labels=tokens(2, 30, seed=5)).loss
        second = model(tokens(2, 11), labels=tokens(2, 11)).loss
        (first + second).backward()
        gradients.append({name: p.grad for name, p in model.adapter_tensors().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


@adapted
def test_save_then_load_gives_equal_logits(family, stage, tmp_path: Path):
    model, ids = trained(family, stage), tokens()
    model.save_pretrained(tmp_path / "adapter")
    loaded = HyLoRADAModel.from_pretrained(FAMILIES[family](), tmp_path / "adapter").eval()
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.hylorada_config == model.hylorada_config


@adapted
def test_merge_keeps_the_logits_or_refuses_naming_the_parts(family, stage):
    model, ids = trained(family, stage), tokens()
    before = model(ids).logits
    if ROWS[stage].stays:
        with pytest.raises(HyLoRADAError) as refusal:
            model.merge_and_unload()
        assert all(part in str(refusal.value) for part in ROWS[stage].stays)
        assert torch.equal(model(ids).logits, before)
    else:
        merged = model.merge_and_unload()
        assert [n for n, _ in merged.named_modules()] == [n for n, _ in FAMILIES[family]().named_modules()]
        torch.testing.assert_close(merged(ids).logits, before, **CLOSE)


@adapted
def test_disable_adapter_is_exactly_the_base_and_ends_with_the_block(family, stage):
    model, ids = trained(family, stage), tokens()
    adapted = model(ids).logits
    with model.disable_adapter() as base:
        assert torch.equal(model(ids).logits, FAMILIES[family]()(ids).logits)
        assert torch.equal(base(ids).logits, FAMILIES[family]()(ids).logits)
    assert torch.equal(model(ids).logits, adapted)
    assert not torch.allclose(adapted, FAMILIES[family]()(ids).logits, atol=1e-2)


@adapted
def test_bfloat16_bases_keep_float32_masters_and_come_close(family, stage):
    model, ids = trained(family, stage), tokens()
    whole = model(ids).logits
    base = FAMILIES[family]().to(torch.bfloat16)
    half = without_zeros(adapt(base, ROWS[stage].adapter))
    assert all(p.dtype == torch.float32 for p in half.trainable_parameters())
    out = half(ids).logits
    assert out.dtype == torch.bfloat16
    agreement = torch.corrcoef(torch.stack([out.float().flatten(), whole.flatten()]))[0, 1]
    assert agreement > 0.98
    half.train()(ids, labels=ids).loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in half.trainable_parameters())


@pytest.mark.parametrize("stage", [name for name in STAGES if STAGES[name].against not in (None, "base")])
def test_a_row_differs_from_the_row_it_builds_on_in_one_field(stage):
    here, there = ROWS[stage].adapter.to_dict(), STAGES[STAGES[stage].against].adapter.to_dict()
    assert len([name for name in here if here[name] != there[name]]) == 1


def test_stages_share_the_start_of_a_at_one_seed():
    starts = [fresh("llama", stage).adapter_tensors() for stage in STAGES if STAGES[stage].adapter]
    names = [name for name in starts[0] if name.endswith("lora.A")]
    assert names and all(torch.equal(start[name], starts[0][name]) for start in starts for name in names)
