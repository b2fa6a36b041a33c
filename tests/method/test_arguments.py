"""What a user calls answers a misspelt name with the nearest one, and a value of another kind with the right kind."""

import inspect
import pydoc
from pathlib import Path

import numpy as np
import pytest
import torch
from bases import adapt, llama, tokens
from scored_texts import letters

import hylorada
from hylorada import (
    HyLoRADAConfig,
    HyLoRADAError,
    HyLoRADAModel,
    HyLoRADATrainer,
    LandmarkLoRA,
    TrainingConfig,
    evaluate_lost_in_the_middle,
    evaluate_perplexity,
    export_lora,
    export_peft,
    get_baseline_model,
    import_peft,
    run_full_evaluation,
)
from hylorada.errors import UnknownSettingError

PUBLIC = [getattr(hylorada, name) for name in hylorada.__all__ if name != "HyLoRADAError"]
METHODS = [
    *(HyLoRADAModel.from_pretrained, HyLoRADAModel.save_pretrained, HyLoRADAModel.push_to_hub),
    *(HyLoRADAModel.merge_and_unload, HyLoRADATrainer.train, HyLoRADAConfig.from_dict),
]
EVALUATIONS = (evaluate_perplexity, evaluate_lost_in_the_middle, run_full_evaluation)
TEXTS = ["some words", "and more of them"]
PLAIN = HyLoRADAConfig(position_bias_enabled=False, landmark_enabled=False)


@pytest.fixture(scope="module")
def model() -> HyLoRADAModel:
    return adapt(llama(), PLAIN)


def refused(act, kind: type[HyLoRADAError] = HyLoRADAError) -> str:
    with pytest.raises(kind) as told:
        act()
    assert "\n" not in str(told.value)
    return str(told.value)


def names_of(called) -> list[str]:
    parameters = inspect.signature(called).parameters.values()
    return [each.name for each in parameters if each.kind is not each.VAR_KEYWORD and each.name != "self"]


@pytest.mark.parametrize("called", [*PUBLIC, *METHODS], ids=lambda called: called.__qualname__)
def test_a_misspelt_keyword_is_answered_with_the_nearest_name(called):
    names = names_of(called)
    assert names and not {"args", "kwargs"} & set(names), "the signature that is shown is the real one"
    assert all(f"{name}:" in pydoc.render_doc(called, renderer=pydoc.plaintext) for name in names)
    for name in names:
        said = refused(lambda name=name: called(**{name + name[-1]: None}), UnknownSettingError)
        assert said.startswith(f"'{name + name[-1]}' is no ") and f"did you mean '{name}'" in said
    with pytest.raises(TypeError):  # as Python itself raises
        called(**{names[0] + "_": None})


@pytest.mark.parametrize("called", EVALUATIONS, ids=lambda called: called.__name__)
def test_names_that_are_passed_on_are_known_where_they_are_given(called, model):
    """What a call sets itself (score_all, texts) had been given in vain, and other names told of a function within."""
    assert "did you mean 'num_samples'" in refused(lambda: called(model, TEXTS, letters(), num_sample=1))
    assert "did you mean 'full_last_window'" in refused(lambda: called(model, TEXTS, letters(), full_last=True))
    for name in ("token_nll", "score_all", "texts"):
        assert f"'{name}' is no argument of {called.__name__}; " in refused(
            lambda name=name: called(model, TEXTS, letters(), **{name: None})
        )


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (
            lambda: HyLoRADAModel(llama(), lora_rank=8),
            "'lora_rank' is no argument of HyLoRADAModel; it is a setting of",
        ),
        (lambda: HyLoRADAModel(llama(), lora_rnk=8), "did you mean 'lora_rank'? it is a setting of HyLoRADAConfig"),
        (
            lambda: get_baseline_model("lora", llama(), lora_rank=8),
            "it is a setting of HyLoRADAConfig, given as config",
        ),
        (lambda: HyLoRADATrainer(None, learning_rate=1.0), "it is a setting of TrainingConfig, given as config"),
        (lambda: HyLoRADATrainer(None, per_device_batch_size=1), "it is a setting of TrainingConfig"),
        (lambda: TrainingConfig(output_dirs="here"), "did you mean 'output_dir'? it is an argument of HyLoRADATrainer"),
    ],
)
def test_what_is_settled_elsewhere_is_said_to_be(act, said):
    assert said in refused(act, UnknownSettingError)


class OfBytes:
    def __fspath__(self) -> bytes:
        return b"here"


class OfText:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize(
    "place", [None, 3, b"here", OfBytes(), "", "a\0b", "a" * 5000, ["here"]], ids=lambda place: repr(place)[:9]
)
def test_what_is_no_place_is_refused_wherever_one_is_asked_for(place, model):
    for act in (
        lambda: HyLoRADAModel.from_pretrained(llama(), place),
        lambda: model.save_pretrained(place),
        lambda: export_peft(model, place),
        lambda: export_lora(model, place, 2),
        lambda: import_peft(llama(), place),
    ):
        assert (
            refused(act).startswith("folder=")
            and len(refused(act)) < 100
            and refused(act).endswith(" is not possible; give a path.")
        )
    if place is not None:
        assert "give a path or none" in refused(lambda: HyLoRADATrainer(model, train_dataset=[], output_dir=place))


def test_a_path_of_any_library_is_a_place(model, tmp_path):
    model.save_pretrained(OfText(tmp_path / "a"))
    for place in (OfText(tmp_path / "a"), str(tmp_path / "a")):
        again = HyLoRADAModel.from_pretrained(llama(), place).eval()
        assert torch.equal(again(tokens()).logits, model(tokens()).logits)
    assert "is no adapter folder" in refused(lambda: HyLoRADAModel.from_pretrained(llama(), OfText(tmp_path / "b")))


@pytest.mark.parametrize("called", EVALUATIONS, ids=lambda called: called.__name__)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(max_length="64"), "max_length='64' is not possible; give a whole number or none"),
        (dict(max_length=10.5), "max_length=10.5 is not possible; give a whole number or none"),
        (dict(max_length=True), "max_length=True is not possible"),
        (dict(batch_size="8"), "batch_size='8' is not possible; give a whole number"),
        (dict(chunk_tokens=None), "chunk_tokens=None is not possible; give a whole number"),
        (dict(join="no"), "join='no' is not possible; give true or false"),
        (dict(add_bos=1), "add_bos=1 is not possible; give true or false"),
        (dict(article_ids=3), "article_ids of shape () for 2 texts"),
    ],
)
def test_a_value_of_another_kind_is_told_with_the_kind_that_is_wanted(called, options, said, model):
    assert said in refused(lambda: called(model, TEXTS, letters(), **options))


@pytest.mark.parametrize("called", EVALUATIONS, ids=lambda called: called.__name__)
def test_what_is_no_tokenizer_is_refused(called, model):
    for tokenizer in ("gpt2", None, type(letters()), [1]):
        assert "is no tokenizer; give the model's own" in refused(lambda given=tokenizer: called(model, TEXTS, given))


def test_numbers_of_other_libraries_are_numbers(model):
    quiet = dict(progress=False)
    wanted = evaluate_perplexity(model, TEXTS, letters(), max_length=8, stride=4, **quiet)
    given = dict(max_length=np.int64(8), stride=torch.tensor(4))
    assert evaluate_perplexity(model, TEXTS, letters(), **given, **quiet) == wanted
    assert LandmarkLoRA(np.int32(4), dropout=np.float32(0.25)).dropout.p == 0.25
    assert "hidden_size='4' is not possible; give a whole number" in refused(lambda: LandmarkLoRA("4"))


def test_what_is_no_model_is_refused_before_a_folder_is_looked_at(model, tmp_path):
    for act in (lambda: export_peft("gpt2", tmp_path), lambda: export_lora(llama(), tmp_path, 2)):
        assert "has no adapter to export; make a HyLoRADAModel of it" in refused(act)
    export_peft(model, tmp_path / "a")
    assert "a str is no causal language model" in refused(lambda: import_peft("gpt2", tmp_path / "a"))
