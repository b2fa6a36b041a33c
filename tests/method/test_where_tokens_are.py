"""The position bias knows the place of each token, in whatever shape a layer sees it and whenever the layer runs."""

import pytest
import torch
from bases import adapt, without_zeros
from family_bases import family_base
from family_measures import _generates, ids, left_padded

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel
from hylorada.end_token import end_probability
from hylorada.evaluation import token_nll
from hylorada.find import find_final_norm
from hylorada.loss import causal_lm_loss, causal_lm_nll
from hylorada.retrieval import Question, candidate_log_probs

BIAS = HyLoRADAConfig(lora_rank=2, lora_dropout=0.0, landmark_enabled=False)


def with_bias(family: str, *targets: str) -> HyLoRADAModel:
    config = HyLoRADAConfig.from_dict(BIAS.to_dict() | {"lora_target_modules": targets or None})
    return without_zeros(adapt(family_base(family), config))


def seen_by(layer, run) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into a layer and comes out of it in a call of `run`."""
    seen = []
    hook = layer.register_forward_hook(lambda layer, args, output: seen.append((args[0], output)))
    run()
    hook.remove()
    return seen[0]


def test_flattened_tokens_are_scaled_at_their_own_places():
    """A shared expert sees (batch·seq, d); the slow formula scales each row's tokens one by one."""
    model = with_bias("qwen2_moe", "down_proj")
    rows, mask = left_padded()
    layer = model.base_model.model.layers[0].mlp.shared_expert.down_proj
    x, y = seen_by(layer, lambda: model(input_ids=rows, attention_mask=mask))
    assert x.ndim == 2
    table = torch.sigmoid(model.position_bias.weight) * torch.tanh(model.position_bias.bias)
    for row in range(2):
        for token in range(12):
            place = torch.tensor(max(int(mask[row, : token + 1].sum()) - 1, 0))
            wanted = layer.merged_weight() @ x[row * 12 + token] * (1 + table[model.position_bias.bucket(place)])
            torch.testing.assert_close(y[row * 12 + token], wanted)


def test_a_layer_over_the_cache_scales_each_cached_token_at_its_place():
    """`kv_b_proj` of DeepSeek runs over all cached tokens at each step."""
    model, rows = with_bias("deepseek_v3", "kv_b_proj"), ids(2, 9)
    layer = model.base_model.model.layers[1].self_attn.kv_b_proj
    _, whole = seen_by(layer, lambda: model(rows))
    cache = model(rows[:, :8], use_cache=True).past_key_values
    _, step = seen_by(layer, lambda: model(rows[:, 8:], past_key_values=cache, use_cache=True))
    assert step.shape[-2] == 9
    torch.testing.assert_close(step, whole)


def test_a_layer_over_a_cache_whose_places_are_not_known_is_refused():
    model, rows = with_bias("deepseek_v3", "kv_b_proj"), ids(2, 9)
    cache = model(rows[:, :8], position_ids=torch.arange(8)[None] + 20, use_cache=True).past_key_values
    with pytest.raises(HyLoRADAError, match=r"vectors in the shape \(2, 1, 9\), and the pass has 2 x 1 tokens"):
        model(rows[:, 8:], position_ids=torch.tensor([[28]]), past_key_values=cache, use_cache=True)


def test_some_of_the_tokens_have_no_known_places():
    """As many vectors as a row has tokens might be of any rows: 12 of 2 x 12 are refused, not taken for one row."""
    model = with_bias("llama")
    layer = model.base_model.model.layers[0].self_attn.q_proj
    model.wiring.positions.set(torch.arange(12)[None], rows=2)
    with pytest.raises(HyLoRADAError, match=r"vectors in the shape \(12,\), and the pass has 2 x 12 tokens"):
        layer(torch.randn(12, 32))


@pytest.mark.parametrize("family", ["llama", "bloom", "gpt_neo"])
def test_blocks_that_run_again_do_so_at_the_places_of_their_own_pass(family):
    """Two losses, forward and forward, backward and backward; the second pass stands elsewhere. Switched on late."""
    model = with_bias(family).train()
    rows, mask = left_padded()
    passes = ((rows, mask), (ids(3, 7), None))
    trained = model.trainable_parameters()
    wanted = [torch.autograd.grad(causal_lm_loss(model, *given), trained) for given in passes]
    model.base_model.activation_checkpointing_enable()
    losses = [causal_lm_loss(model, *given) for given in passes]
    got = [torch.autograd.grad(loss, trained) for loss in losses]
    torch.testing.assert_close(got, wanted)


def test_checkpointing_is_given_back_with_the_base():
    model = with_bias("bloom").train()
    model.base_model.activation_checkpointing_enable()
    functions = [m._gradient_checkpointing_func for m in model.base_model.transformer.h]
    causal_lm_loss(model, ids())
    assert [m._gradient_checkpointing_func for m in model.base_model.transformer.h] != functions
    with model.disable_adapter():
        assert [m._gradient_checkpointing_func for m in model.base_model.transformer.h] == functions


@pytest.mark.parametrize("family, state", [("mamba2", "cache_params"), ("rwkv", "state")])
def test_tokens_go_on_from_a_state_that_counts_none(family, state):
    """Token by token, and two at once, as in one pass; without what was noted on the state they are refused."""
    config = HyLoRADAConfig(lora_rank=2, lora_target_modules="all-linear", max_positions=64)
    model, row = without_zeros(adapt(family_base(family), config)), ids(1, 12)
    whole = model(row).logits
    held = {}
    for first, end in ((0, 7), (7, 9), (9, 10)):
        output = model(row[:, first:end], use_cache=True, **held)
        torch.testing.assert_close(output.logits, whole[:, first:end], rtol=1e-3, atol=1e-4)
        held = {state: output[state]}
    with model.disable_adapter() as base:
        held = {state: base(row[:, :7], use_cache=True)[state]}
    with pytest.raises(HyLoRADAError, match="token positions got none"):
        model(row[:, 7:8], **held)


def test_padded_rows_of_a_state_space_go_on_at_their_own_places():
    """Generation drops the mask after the first step."""
    config = HyLoRADAConfig(lora_rank=2, lora_target_modules="all-linear", max_positions=64)
    _generates(without_zeros(adapt(family_base("mamba2"), config)))


def test_landmarks_that_pool_are_refused_where_no_cache_keeps_states():
    config = HyLoRADAConfig(lora_target_modules="all-linear", landmark_design="original", max_positions=64)
    with pytest.raises(HyLoRADAError, match="the cache of a Mamba2ForCausalLM has no place"):
        HyLoRADAModel(family_base("mamba2"), config)


def test_positions_are_not_known_outside_a_pass():
    model = with_bias("llama")
    model(ids())
    with pytest.raises(HyLoRADAError, match="call the model itself"):
        model.base_model.model.layers[0].self_attn.q_proj(torch.randn(2, 12, 32))


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("part", ["model", "base_model"])
def test_a_call_without_tokens_is_told_what_is_wanted(part, enabled):
    """The base names the two; with an adapter in it the first thing that looked at them was ours."""
    config = HyLoRADAConfig.from_dict(BIAS.to_dict() | {"position_bias_enabled": enabled})
    model = adapt(family_base("llama"), config)
    called, given = model if part == "model" else model.base_model, ids()
    for arguments, said in (
        ({}, "neither input_ids nor inputs_embeds is given; give one of them, a tensor of .batch, seq. ids"),
        ({"attention_mask": torch.ones(2, 12)}, "neither input_ids nor inputs_embeds is given"),
        ({"input_ids": given.tolist()}, "input_ids is a list"),
        ({"input_ids": "words"}, "input_ids is a str"),
        ({"input_ids": given[0]}, "input_ids is of shape .12,."),
        ({"input_ids": given, "attention_mask": torch.ones(2, 5)}, "is of shape .2, 5., and 12 tokens are given"),
    ):
        with pytest.raises(HyLoRADAError, match=said):
            called(**arguments)
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):  # as the base says
        called(input_ids=given, inputs_embeds=torch.zeros(2, 12, 32))
    torch.testing.assert_close(called(given).logits, called(inputs_embeds=model.get_input_embeddings()(given)).logits)


FINAL_NORM = {
    "mpt": "transformer.norm_f",
    "lfm2": "model.embedding_norm",
    "xglm": "model.layer_norm",
    "bloom": "transformer.ln_f",
    "gemma3": "model.language_model.norm",
}


@pytest.mark.parametrize("family", FINAL_NORM)
def test_the_final_norm_is_the_one_whose_output_is_the_decoders(family):
    assert find_final_norm(family_base(family)) == FINAL_NORM[family]


def test_a_decoder_that_does_not_end_in_a_norm_has_no_place_for_landmarks():
    """OPT-350m projects its states after the last norm, to another width."""
    base = family_base("opt", do_layer_norm_before=False, word_embed_proj_dim=16)
    with pytest.raises(HyLoRADAError, match="the output of OPTDecoder comes from no norm"):
        HyLoRADAModel(base, HyLoRADAConfig())
    assert HyLoRADAModel(base, BIAS)(ids()).logits.isfinite().all()


def test_landmarks_that_pool_are_refused_in_a_multimodal_model_at_construction():
    with pytest.raises(HyLoRADAError, match="'per_layer' pools under the padding mask"):
        HyLoRADAModel(family_base("gemma3"), HyLoRADAConfig(landmark_design="per_layer"))


@pytest.mark.parametrize("family", ["bloom", "mpt", "falcon"])
def test_pooled_landmarks_act_after_blocks_that_return_more_than_states(family):
    """Cached and uncached steps agree, and a trained landmark moves the logits."""
    config = HyLoRADAConfig(lora_rank=2, position_bias_enabled=False, landmark_design="per_layer")
    model, rows = without_zeros(adapt(family_base(family), config)), ids(2, 9)
    whole = model(rows).logits
    cache = model(rows[:, :8], use_cache=True).past_key_values
    torch.testing.assert_close(model(rows[:, 8:], past_key_values=cache, use_cache=True).logits[:, 0], whole[:, 8])
    with torch.no_grad():
        for part in model.landmark.modules():
            if hasattr(part, "scale"):
                part.scale.zero_()
    assert not torch.allclose(model(rows).logits, whole, atol=1e-3)


def test_a_model_that_counts_positions_from_its_padding_index_goes_on_to_do_so():
    """RoBERTa's first token stands at padding index + 1; ids from 0 would move every token."""
    base = family_base("roberta", is_decoder=True, type_vocab_size=1)
    rows, mask = ids() + 1, torch.ones_like(ids())
    bare = base(input_ids=rows, attention_mask=mask).logits
    fresh = HyLoRADAConfig(landmark_enabled=False, max_positions=32)
    model = adapt(base, fresh)
    torch.testing.assert_close(model(input_ids=rows, attention_mask=mask).logits, bare)
    with pytest.raises(HyLoRADAError, match="takes no position_ids from 0"):
        causal_lm_loss(model, rows, position_ids=torch.arange(12)[None])


def test_a_model_without_a_stated_context_is_scored_in_windows_that_are_given():
    base = family_base("bloom", seq_length=None)
    rows = ids().tolist()
    scored = token_nll(base, rows, max_length=12, progress=False).nll
    torch.testing.assert_close(torch.from_numpy(scored).view(2, 11), causal_lm_nll(base, ids()))
    with pytest.raises(HyLoRADAError, match="give max_length, the window in tokens"):
        token_nll(base, rows, progress=False)
    ends = end_probability(base, rows, 5, max_length=12, progress=False).nll
    of_end = torch.cat([-base(ids()).logits.log_softmax(-1)[row, :-1, 5] for row in range(2)])
    torch.testing.assert_close(torch.from_numpy(ends).float(), of_end, rtol=1e-4, atol=1e-5)
    asked = Question(tuple(rows[0]), ((3,), (4,)), answer=0, size=12, index=0, depth=0.0)
    scores = candidate_log_probs(base, [asked], progress=False)[0]
    assert scores.tolist() == pytest.approx(base(ids()).logits.log_softmax(-1)[0, -1, 3:5].tolist(), rel=1e-4)
