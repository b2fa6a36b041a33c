"""The chunked loss is the whole loss, in value, in gradient and in what it counts; only its memory differs."""

import weakref

import pytest
import torch
from bases import FAMILIES, adapt, tokens, without_zeros
from torch import nn
from torch.nn import functional as F
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from hylorada import HyLoRADAConfig, HyLoRADAError
from hylorada.loss import IGNORED, causal_lm, causal_lm_loss, causal_lm_nll, chunked_nll

ROWS, WIDTH, WORDS = 23, 8, 31


class SpyHead(nn.Linear):
    """An output layer that notes how many rows it is given at a time."""

    def __init__(self) -> None:
        super().__init__(WIDTH, WORDS)
        self.rows: list[int] = []

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(hidden))
        return super().forward(hidden)


def rows_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden, targets = torch.randn(ROWS, WIDTH), torch.randint(0, WORDS, (ROWS,))
    targets[[0, 4, 5]] = IGNORED
    return hidden.requires_grad_(), targets


def whole_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log softmax(logits)[target], zero where ignored; no shortcut."""
    picked = -logits.float().log_softmax(dim=-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return picked.where(targets != IGNORED, 0.0)


@pytest.mark.parametrize("head_trains", [False, True])
@pytest.mark.parametrize("fp32_logits", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 20, 512])
def test_chunked_nll_is_the_whole_nll_with_its_gradients(chunk_tokens, fp32_logits, head_trains):
    hidden, targets = rows_and_targets()
    head, upstream = SpyHead().requires_grad_(head_trains), torch.randn(ROWS)
    whole = whole_nll(head(hidden), targets)
    wanted = torch.autograd.grad(whole, [hidden, *(head.parameters() if head_trains else [])], upstream)

    nll = chunked_nll(hidden, head, targets, chunk_tokens, fp32_logits)
    got = torch.autograd.grad(nll, [hidden, *(head.parameters() if head_trains else [])], upstream)
    torch.testing.assert_close(nll, whole)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("head_trains", [False, True])
def test_no_more_than_a_chunk_of_logits_is_made_forward_or_backward(head_trains):
    hidden, targets = rows_and_targets()
    head = SpyHead().requires_grad_(head_trains)
    chunked_nll(hidden, head, targets, chunk_tokens=6).sum().backward()
    assert max(head.rows) == 6
    assert sum(head.rows) == (ROWS - 3) * (
        2 if head_trains else 1
    )  # ignored rows cost nothing; only a trained head recomputes


@pytest.mark.parametrize("head_trains", [False, True])
def test_logits_do_not_outlive_their_chunk(head_trains):
    hidden, targets = rows_and_targets()
    saved: list[weakref.ref] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        nll = chunked_nll(hidden, SpyHead().requires_grad_(head_trains), targets, chunk_tokens=6)
    live = [tensor.shape for tensor in (ref() for ref in saved) if tensor is not None]
    assert nll.requires_grad and saved
    assert not [shape for shape in live if shape[-1:] == (WORDS,) and shape[0] <= 6]  # rows of logits, not the weight


def test_float32_logits_undo_the_rounding_of_a_bfloat16_model():
    hidden, targets = rows_and_targets()
    hidden, head = hidden.detach().bfloat16(), SpyHead().bfloat16()
    exact = whole_nll(hidden.float() @ head.weight.float().T + head.bias.float(), targets)
    torch.testing.assert_close(chunked_nll(hidden, head, targets, fp32_logits=True), exact)
    assert not torch.equal(chunked_nll(hidden, head, targets), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(chunked_nll(hidden, head, targets, fp32_logits=True), exact)


def test_a_bfloat16_gradient_is_that_of_the_whole_loss():
    hidden, targets = rows_and_targets()
    hidden, head = hidden.detach().bfloat16().requires_grad_(), SpyHead().bfloat16().requires_grad_(False)
    (wanted,) = torch.autograd.grad(whole_nll(head(hidden), targets).sum() / 7, hidden)
    (got,) = torch.autograd.grad(chunked_nll(hidden, head, targets, 6).sum() / 7, hidden)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, wanted, rtol=2e-2, atol=1e-3)


def test_ignored_targets_alone_give_zeros_that_can_be_trained_on():
    hidden, targets = rows_and_targets()
    nll = chunked_nll(hidden, SpyHead().requires_grad_(False), torch.full_like(targets, IGNORED))
    nll.sum().backward()
    assert not nll.any() and not hidden.grad.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_is_the_models_own(family):
    model, ids = FAMILIES[family](), tokens()
    labels = ids.clone()
    labels[:, 5:9] = IGNORED
    torch.testing.assert_close(causal_lm_loss(model, ids), model(ids, labels=ids).loss)
    torch.testing.assert_close(
        causal_lm_loss(model, ids, labels=labels, chunk_tokens=3), model(ids, labels=labels).loss
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_get_the_gradients_of_the_models_own_loss(family):
    config = HyLoRADAConfig(lora_rank=2, lora_dropout=0.0, use_dora_magnitude=True, gradient_checkpointing=True)
    model, ids = without_zeros(adapt(FAMILIES[family](), config)).train(), tokens()
    trained = model.trainable_parameters()
    wanted = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, trained)
    got = torch.autograd.grad(causal_lm_loss(model, ids, chunk_tokens=5), trained)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_moves_no_nll_and_is_no_target(family, adapted, side):
    model, ids, pad = FAMILIES[family](), tokens(batch=1, length=9), 4
    if adapted:
        model = without_zeros(adapt(model, HyLoRADAConfig(lora_rank=2)))
    width = (pad, 0) if side == "left" else (0, pad)
    padded, mask = F.pad(ids, width), F.pad(torch.ones_like(ids), width)
    nll = causal_lm_nll(model, padded, mask)
    assert (nll != 0).sum() == ids.shape[1] - 1
    torch.testing.assert_close(nll[nll != 0], causal_lm_nll(model, ids)[0])
    torch.testing.assert_close(causal_lm_loss(model, padded, mask), causal_lm_loss(model, ids))


def test_given_labels_decide_alone_so_padding_can_be_counted_as_published():
    model, ids = FAMILIES["gpt2"](), F.pad(tokens(batch=1, length=9), (0, 4))
    mask = (ids != 0).long()
    torch.testing.assert_close(
        causal_lm_loss(model, ids, mask, labels=ids), model(ids, attention_mask=mask, labels=ids).loss
    )
    assert (causal_lm_nll(model, ids, mask, labels=ids) != 0).sum() == 12


def test_losses_of_an_accumulated_step_add_up_to_the_mean_over_its_tokens():
    model, ids = FAMILIES["llama"](), tokens(batch=3, length=10)
    labels = ids.clone()
    labels[0, 4:] = IGNORED
    count = int((labels[:, 1:] != IGNORED).sum())
    parts = [causal_lm_loss(model, ids[[i]], labels=labels[[i]], target_count=count) for i in range(3)]
    torch.testing.assert_close(sum(parts), causal_lm_loss(model, ids, labels=labels))


def test_a_batch_without_a_target_is_an_error_and_not_nan():
    with pytest.raises(HyLoRADAError, match="no target token"):
        causal_lm_loss(FAMILIES["gpt2"](), tokens(length=1))


SIZES = dict(
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    vocab_size=50,
)


def cohere() -> CohereForCausalLM:
    return CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.5, bos_token_id=1, eos_token_id=2))


def gemma2(cap: float | None = 0.5) -> Gemma2ForCausalLM:
    """A cap so low that it bends the logits of a random model."""
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=cap, pad_token_id=0))


class HalvedInPlace(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits.mul_(0.5)
        return output


class ScaledBeforeTheHead(LlamaForCausalLM):
    def forward(self, input_ids, **kwargs):
        hidden = self.model(input_ids, **kwargs).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(hidden * 1.5))


CHANGES_LOGITS = {
    "soft-capped": gemma2,
    "scaled": cohere,
    "divided": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=4.0)),
    "in place, said nowhere": lambda: HalvedInPlace(LlamaConfig(**SIZES)),
    "before the head, said nowhere": lambda: ScaledBeforeTheHead(LlamaConfig(**SIZES)),
}


@pytest.fixture(params=CHANGES_LOGITS)
def changing(request) -> PreTrainedModel:
    torch.manual_seed(0)
    return CHANGES_LOGITS[request.param]().eval()


def test_a_model_that_changes_its_logits_gives_the_loss_and_gradients_of_those(changing):
    model, ids = without_zeros(adapt(changing, HyLoRADAConfig(lora_rank=2, lora_dropout=0.0))), tokens() % 50
    trained = model.trainable_parameters()
    own = whole_nll(model(input_ids=ids).logits[:, :-1], ids[:, 1:])
    nll = causal_lm_nll(model, ids, chunk_tokens=5)
    torch.testing.assert_close(nll, own)
    wanted, got = (torch.autograd.grad(loss.mean(), trained) for loss in (own, nll))
    torch.testing.assert_close(got, wanted)


def test_the_parameters_of_a_head_that_caps_are_trained_too():
    model, ids = gemma2(), tokens() % 50
    head = model.get_output_embeddings().weight
    own, nll = whole_nll(model(input_ids=ids).logits[:, :-1], ids[:, 1:]), causal_lm_nll(model, ids, chunk_tokens=5)
    wanted, got = (torch.autograd.grad(loss.mean(), head)[0] for loss in (own, nll))
    torch.testing.assert_close(got, wanted)


def test_float32_logits_of_a_model_that_caps_are_capped_in_float32():
    torch.manual_seed(0)
    model, ids = gemma2().bfloat16().eval(), tokens() % 50
    with torch.no_grad():
        hidden = model.model(ids)[0].float()
        capped = 0.5 * torch.tanh(hidden @ model.lm_head.weight.float().T / 0.5)
        nll = causal_lm_nll(model, ids, fp32_logits=True)
    torch.testing.assert_close(nll, whole_nll(capped[:, :-1], ids[:, 1:]))


def test_no_more_than_a_chunk_of_a_models_own_logits_is_made():
    model, rows = gemma2(), []
    model.get_output_embeddings().register_forward_hook(lambda head, args, out: rows.append(out.shape[-2]))
    causal_lm_nll(model, tokens() % 50)  # asked once, before
    rows.clear()
    causal_lm_nll(model, tokens() % 50, chunk_tokens=7)
    assert max(rows) == 7


class MixesTokens(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        return CausalLMOutput(logits=output.logits.cumsum(dim=1))


def test_logits_that_come_from_several_tokens_are_refused():
    with pytest.raises(HyLoRADAError, match="MixesTokens at a token come from more than"):
        causal_lm_nll(MixesTokens(LlamaConfig(**SIZES)), tokens() % 50)


def test_the_same_family_without_its_cap_has_its_own_loss():
    torch.manual_seed(0)
    model = gemma2(cap=None).eval()
    ids = tokens() % 50
    torch.testing.assert_close(causal_lm_loss(model, ids), model(ids, labels=ids).loss)


def test_asking_a_model_about_its_logits_leaves_no_trace():
    model, ids = without_zeros(adapt(FAMILIES["gpt2"](), HyLoRADAConfig(lora_dropout=0.5))).train(), tokens()
    hooks = [len(module._forward_hooks) for module in model.modules()]
    losses = []
    for _ in range(2):  # the second is not asked any more
        torch.manual_seed(0)
        losses.append(causal_lm_loss(model, ids))
    torch.testing.assert_close(*losses, rtol=0, atol=0)
    assert [len(module._forward_hooks) for module in model.modules()] == hooks and model.training


def test_the_adapted_models_causal_lm_is_its_base_and_other_modules_are_refused():
    base = FAMILIES["llama"]()
    assert causal_lm(base) is base and causal_lm(adapt(base, HyLoRADAConfig())) is base
    with pytest.raises(HyLoRADAError, match="Linear is neither"):
        causal_lm(nn.Linear(2, 2))
