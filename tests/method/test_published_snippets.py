"""The published documents' own snippets, as they are written there, with a small model in place of theirs.

README, METHODOLOGY 3.4, 8.1 and 8.2, and the research notes, of 2 February 2026.
"""

from importlib import import_module

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, LandmarkLoRA, LearnableBucketLandmark
from hylorada.study.sources.tiny import byte_tokenizer
from hylorada.trainer import pad_right

TRAINING = """
from hylorada.trainer import HyLoRADATrainer, TrainingConfig

# Configure training
train_config = TrainingConfig(
    num_epochs=3,
    learning_rate=2e-4,
    per_device_batch_size=1,
    gradient_accumulation_steps=16,
    mixed_precision="bf16",
)

# Create trainer
trainer = HyLoRADATrainer(
    model=model,
    train_dataloader=train_dataloader,
    eval_dataloader=eval_dataloader,
    config=train_config,
)

# Train
trainer.train()
"""

EVALUATION = """
from hylorada.evaluation import evaluate_perplexity

perplexity, loss = evaluate_perplexity(
    model=model,
    dataset=test_dataset,
    tokenizer=tokenizer,
    max_length=4096,
)
print(f"Perplexity: {perplexity:.2f}")

from hylorada.evaluation import evaluate_lost_in_the_middle

results = evaluate_lost_in_the_middle(
    model=model,
    dataset=test_dataset,
    tokenizer=tokenizer,
    num_samples=100,
)
# Returns position-wise perplexity distribution

from hylorada.evaluation import run_full_evaluation

metrics = run_full_evaluation(
    model=model,
    test_dataset=test_dataset,
    tokenizer=tokenizer,
    config=config,
)
"""

CONFIGURATIONS = """
from hylorada import HyLoRADAConfig, HyLoRADAModel

# Minimal configuration (default)
config = HyLoRADAConfig(
    lora_rank=8,
    lora_alpha=16.0,
    use_dora_magnitude=True,      # DoRA enabled
    position_bias_enabled=True,   # Position bias enabled
    s2_attn_enabled=False,        # S²-Attn disabled
    landmark_enabled=False,       # LandmarkLoRA disabled
)

# Long context (2K-4K tokens)
config_long = HyLoRADAConfig(
    lora_rank=8,
    use_dora_magnitude=True,
    position_bias_enabled=True,
    s2_attn_enabled=True,         # Enable S²-Attn
    s2_group_size=2048,
)

# Extreme context (>8K tokens)
config_extreme = HyLoRADAConfig(
    lora_rank=8,
    use_dora_magnitude=True,
    position_bias_enabled=True,
    s2_attn_enabled=True,
    train_embeddings=True,        # Unfreeze embeddings
    train_norms=True,             # Unfreeze norms
    rope_scaling_type="yarn",     # YaRN RoPE scaling
    rope_scaling_factor=2.0,
)

# With experimental LandmarkLoRA
config_experimental = HyLoRADAConfig(
    lora_rank=8,
    use_dora_magnitude=True,
    position_bias_enabled=True,
    landmark_enabled=True,        # Enable landmark
    num_landmarks=8,
)

model = HyLoRADAModel(base_model, config)
model.print_trainable_params()
"""

LANDMARKS = """
from hylorada.landmark_redesigns import LearnableBucketLandmark

landmark = LearnableBucketLandmark(
    hidden_size=768,
    num_landmarks=8,
    num_buckets=32,
    dropout=0.05,
)

# Register as forward hook on final layer norm
# ... (see test script for full example)

# After training, inspect learned boundaries
boundaries = landmark.get_learned_boundaries()
print(f"Learned boundaries: {boundaries}")
"""

KEY_FILES = {
    "hylorada.lora": ("HyLoRADAUnified", "PositionBias", "LandmarkLoRA"),
    "hylorada.config": ("HyLoRADAConfig",),
    "hylorada.model": ("HyLoRADAModel",),
    "hylorada.s2_attention": ("ShiftedSparseAttention",),
    "hylorada.daa": ("DirectAttentionAdapter",),
    "hylorada.sparse_mlp": ("SparseMLP",),
    "hylorada.baselines": ("METHODS", "get_baseline_model"),
    "hylorada.trainer": ("HyLoRADATrainer", "TrainingConfig"),
    "hylorada.evaluation": ("evaluate_perplexity", "evaluate_lost_in_the_middle", "run_full_evaluation"),
}
TEXTS = ["The quick brown fox jumps over the lazy dog. " * 3, "A short text."] * 4


def llama() -> PreTrainedModel:
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    special = dict(vocab_size=257, max_position_embeddings=4096, bos_token_id=256, eos_token_id=256)
    return LlamaForCausalLM(LlamaConfig(**sizes, **special)).eval()


def gpt2(width: int = 32) -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(n_embd=width, n_layer=1, n_head=4, vocab_size=257, bos_token_id=256, eos_token_id=256)
    )


def test_the_training_example_trains_and_evaluates_each_epoch():
    torch.manual_seed(0)
    model = HyLoRADAModel(gpt2(), HyLoRADAConfig(use_dora_magnitude=True))
    rows = [{"input_ids": ids} for ids in byte_tokenizer(64)(TEXTS).input_ids]
    loaders = {name: DataLoader(rows, 1, collate_fn=pad_right) for name in ("train_dataloader", "eval_dataloader")}
    names = {"model": model, **loaders}
    exec(TRAINING, names)
    rows = names["trainer"].history
    assert [row["epoch"] for row in rows] == [1, 2, 3], "eight micro-batches of one are one step an epoch"
    assert rows[-1]["eval_loss"] < rows[0]["eval_loss"] < rows[0]["loss"]
    assert names["train_config"].batch_size == 1


def test_the_configuration_and_evaluation_examples_run(capsys):
    names = {"base_model": llama()}
    exec(CONFIGURATIONS, names)
    assert capsys.readouterr().out.startswith("trainable ")
    more = {"test_dataset": TEXTS, "tokenizer": byte_tokenizer(64)}
    names |= more
    exec(EVALUATION, names)
    assert names["metrics"]["perplexity"] == pytest.approx(names["perplexity"]) and names["metrics"]["texts"] == 8
    for name in ("config_long", "config_extreme", "config_experimental"):
        exec("model = HyLoRADAModel(base_model, config)", names | {"base_model": llama(), "config": names[name]})


def test_the_landmark_of_the_notes_is_used_as_a_hook(capsys):
    """Logits are those of the head on ln_f(h) + scale·(mix @ landmarks), each token at its own place from 0."""
    names: dict = {}
    torch.manual_seed(0)
    exec(LANDMARKS, names)
    landmark, base = names["landmark"].eval(), gpt2(768).eval()
    assert "Learned boundaries: tensor([" in capsys.readouterr().out
    assert landmark.bucket_boundaries is landmark.boundaries and landmark.bucket_boundaries.shape == (31,)

    def landmark_hook(module, input, output):  # as in the published test script
        hidden_states = output[0] if isinstance(output, tuple) else output
        return landmark(hidden_states)

    ids = torch.arange(20).view(2, 10)
    hidden = base.transformer(ids).last_hidden_state
    hook = base.transformer.ln_f.register_forward_hook(landmark_hook)
    weights = landmark.bucket_weights(torch.arange(10)[None])  # (1, 10, 32)
    mix = (weights @ landmark.position_gates + hidden @ landmark.content_gate.T).softmax(dim=-1)
    wanted = base.lm_head(hidden + landmark.scale * (mix @ landmark.landmarks))
    torch.testing.assert_close(base(ids).logits, wanted)
    hook.remove()


def test_landmarks_of_fixed_buckets_count_positions_too():
    landmark, hidden = LandmarkLoRA(hidden_size=8), torch.randn(2, 5, 8)
    torch.testing.assert_close(landmark(hidden), landmark(hidden, torch.arange(5)[None].expand(2, 5)))
    assert isinstance(landmark, nn.Module)


@pytest.mark.parametrize("design", [LandmarkLoRA, LearnableBucketLandmark])
@pytest.mark.parametrize(
    "hidden, positions, told",
    [
        ((5, 8), None, r"\(5, 8\); give \(batch, seq, 8\)"),
        ((2, 5, 7), None, r"\(2, 5, 7\); give \(batch, seq, 8\)"),
        ((2, 5, 8), torch.arange(5), r"in the shape \(5,\) .* as \(2, 5\) or \(1, 5\)"),
        ((2, 5, 8), torch.zeros(2, 5), r"positions of torch.float32 .* give whole numbers"),
    ],
)
def test_a_landmark_says_which_shapes_it_takes(design, hidden, positions, told):
    with pytest.raises(HyLoRADAError, match=told):
        design(hidden_size=8)(torch.randn(hidden), positions)


@pytest.mark.parametrize("module", KEY_FILES)
def test_key_files_hold_the_names_that_the_methodology_gives(module):
    assert all(hasattr(import_module(module), name) for name in KEY_FILES[module])
