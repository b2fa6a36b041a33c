"""What a training takes as data: rows without tokens or targets, packed texts, and what is refused in one line."""

from dataclasses import replace

import pytest
import torch
from bases import CONTEXT, FAMILIES, adapt, families, gpt2, llama
from short_training import FULL, SHORT, sequences
from torch.utils.data import DataLoader, IterableDataset, default_collate

from hylorada import HyLoRADAError, HyLoRADATrainer, TrainingConfig
from hylorada.packing import check_keeps_apart
from hylorada.rows import Limits, survey
from hylorada.trainer import pad_right

QUIET = replace(FULL, lora_dropout=0.0)
ONE_STEP = replace(SHORT, num_epochs=1, batch_size=4)
FIRST, SECOND = [3, 4, 5, 6, 7], [8, 9, 10, 11]
PACKED = {"input_ids": FIRST + SECOND, "position_ids": [0, 1, 2, 3, 4, 0, 1, 2, 3]}


def step(data, base=llama, adapter=QUIET, **more) -> tuple[dict, torch.Tensor]:
    """The first row of a training, and what all its parameters came to."""
    model = adapt(base(), adapter, seed=5)
    history = HyLoRADATrainer(model, ONE_STEP, data, progress=False, **more).train().history
    return history[0], torch.cat([p.detach().flatten() for p in model.trainable_parameters()])


@families
@pytest.mark.parametrize("changes", [{}, {"daa_enabled": True}, {"landmark_design": "original"}], ids=str)
def test_a_row_without_tokens_has_no_target_and_moves_nothing(family, changes):
    adapter = replace(QUIET, **changes)
    with_it, moved = step([*sequences(2), {"input_ids": []}], FAMILIES[family], adapter)
    without, wanted = step(sequences(2), FAMILIES[family], adapter)
    assert with_it["targets"] == without["targets"] == 30
    assert with_it["loss"] == pytest.approx(without["loss"], rel=1e-6)
    torch.testing.assert_close(moved, wanted, rtol=1e-3, atol=1e-4)


def test_a_step_of_rows_without_tokens_is_one_without_targets():
    config = replace(ONE_STEP, batch_size=1, allow_empty_steps=True)
    model = adapt(llama(), QUIET)
    history = HyLoRADATrainer(model, config, [{"input_ids": []}, *sequences(1)], progress=False).train().history
    assert sorted(row["targets"] for row in history) == [0, 15]
    with pytest.raises(HyLoRADAError, match="step 1 has no target"):
        step([{"input_ids": []}])


@families
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_texts_packed_in_a_row_train_as_in_rows_of_their_own(family, attention):
    def base():
        model = FAMILIES[family]()
        model.set_attn_implementation(attention)
        return model

    alone = [{"input_ids": FIRST}, {"input_ids": SECOND}, {"input_ids": FIRST + SECOND + [1]}]
    row, moved = step([PACKED, {"input_ids": FIRST + SECOND + [1]}], base)
    wanted, apart = step(alone, base)
    assert row["targets"] == wanted["targets"] == 4 + 3 + 9
    assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
    torch.testing.assert_close(moved, apart, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("changes", [{"daa_enabled": True}, {"gradient_checkpointing": True}], ids=str)
def test_other_parts_keep_packed_texts_apart_too(changes):
    adapter = replace(QUIET, **changes)
    row, moved = step([PACKED], adapter=adapter)
    wanted, apart = step([{"input_ids": FIRST}, {"input_ids": SECOND}], adapter=adapter)
    assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
    torch.testing.assert_close(moved, apart, rtol=1e-3, atol=1e-4)


def test_a_loader_of_packed_rows_is_read_the_same_way():
    flat = {name: torch.tensor([values]) for name, values in PACKED.items()}
    assert step(None, train_dataloader=[flat])[0] == step([PACKED])[0]


def test_padding_on_the_left_with_positions_of_its_own_is_no_packing():
    padded = {"input_ids": [0, 0, *FIRST], "attention_mask": [0, 0] + [1] * 5, "position_ids": [0, 0, 0, 1, 2, 3, 4]}
    adapter = replace(QUIET, landmark_design="original")  # which cannot act on packed texts
    got, wanted = step([padded], adapter=adapter)[0], step([{"input_ids": FIRST}], adapter=adapter)[0]
    assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-5) and got["targets"] == wanted["targets"]


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        ([PACKED], dict(adapter=replace(QUIET, landmark_design="original")), "pools over a whole row"),
        ([PACKED], dict(adapter=replace(QUIET, s2_attn_enabled=True, s2_group_size=4)), "give each text a row"),
        ([PACKED], dict(collate=default_collate), "a collate of your own"),
        ([PACKED | {"position_ids": [0, 1, 2, 7, 8, 0, 1, 2, 3]}], {}, "leave places out"),
        ([{"input_ids": [1, 2, 3], "attention_mask": [1, 1, 2]}], {}, "other numbers than 0 .padding. and 1"),
    ],
)
def test_packed_texts_that_cannot_be_kept_apart_are_refused(data, more, message):
    with pytest.raises(HyLoRADAError, match=message):
        step(data, **more)


def test_a_model_that_does_not_keep_texts_apart_is_found_out(monkeypatch):
    model = adapt(gpt2(), replace(QUIET, position_bias_enabled=False, landmark_enabled=False))
    decoder = model.base_model.get_decoder()
    forward = decoder.forward

    def blind(position_ids=None, attention_mask=None, **more):
        return forward(position_ids=position_ids, attention_mask=torch.ones_like(position_ids), **more)

    check_keeps_apart(model)
    monkeypatch.setattr(decoder, "forward", blind)
    with pytest.raises(HyLoRADAError, match="lets a packed text see the one before it"):
        check_keeps_apart(model)


def test_absent_values_and_rows_of_two_dimensions_are_read():
    plain = step([{"input_ids": FIRST}])[0]
    assert step([{"input_ids": FIRST, "labels": None, "attention_mask": None, "position_ids": None}])[0] == plain
    as_tensors = {"input_ids": torch.tensor([FIRST]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    assert step([as_tensors])[0] == plain


class Columns:
    """Of a length, and asked for by name, as pandas' frames are."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, name):
        return {"input_ids": [[1, 2], [3, 4]]}[name]


class Stream(IterableDataset):
    def __iter__(self):
        yield from sequences()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"input_ids": [1, 97]}], r"train_dataset\[0\] go from 1 to 97, and the model's from 0 to 96"),
        ([{"input_ids": [1, -1]}], "go from -1 to 1"),
        ([{"input_ids": [1, 2], "labels": [1, 97]}], "labels of"),
        ([{"input_ids": [1] * (CONTEXT + 1)}], f"takes {CONTEXT + 1} positions, and this model has {CONTEXT}"),
        ([{"input_ids": [1, 2], "position_ids": [0, CONTEXT]}], f"takes {CONTEXT + 1} positions"),
        ([{"input_ids": torch.ones(2, 3, dtype=torch.long)}], r"shape \(2, 3\); an item is one sequence"),
        ([{"input_ids": [0.5, 1.0]}], "holds fractions"),
        ([{"input_ids": "text"}], "no sequence of whole numbers"),
        ([{"input_ids": [1, 2, 3], "labels": [1, 2]}], "3 input_ids and 2 labels"),
        (["a text"], "is a str; each needs 'input_ids'"),
        ({"input_ids": [[1, 2], [3, 4]]}, "is a dict, and no sequence of items"),
        (Columns(), r"a Columns has no item 0 .KeyError., so train_dataset is no sequence"),
        (Stream(), "can neither be counted nor asked for by number"),
        (DataLoader(sequences()), "or a DataLoader as train_dataloader"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,  # an object would be named by its address
)
@pytest.mark.parametrize("use", ["train", "eval"])
def test_what_no_model_can_train_on_is_refused_at_construction(data, message, use):
    datasets = {"train_dataset": sequences(), f"{use}_dataset": data}
    with pytest.raises(HyLoRADAError, match=message.replace("train_data", f"{use}_data")):
        HyLoRADATrainer(adapt(llama(), QUIET), SHORT, **datasets)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (DataLoader(Stream(), batch_size=2), "does not know how many batches it has"),
        ([], "train_dataloader is empty"),
        ([{"ids": [[1]]}], r"batch 1 of train_dataloader holds \['ids'\]"),
        ([{"input_ids": [1, 2]}], r"shape \(2,\); give \(batch, tokens\)"),
        ([{"input_ids": [[1, 97]]}], "input_ids of batch 1 of train_dataloader go from 1 to 97"),
        ([{"input_ids": [[1, 2]], "labels": [[1]]}], r"labels of \(1, 1\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,  # an object would be named by its address
)
def test_a_loader_of_something_else_is_refused(loader, message):
    with pytest.raises(HyLoRADAError, match=message):
        HyLoRADATrainer(adapt(llama(), QUIET), SHORT, train_dataloader=loader, progress=False).train()


@pytest.mark.parametrize(
    ("makes", "message"),
    [
        ({"input_ids": torch.full((2, 3), 97)}, "input_ids of batch 1 of this collate function go from 97 to 97"),
        ({"ids": 1}, r"batch 1 of this collate function holds \['ids'\]"),
        ([1], "batch 1 of this collate function is a list"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,  # an object would be named by its address
)
def test_what_a_collate_of_ones_own_makes_is_held_to_the_model_too(makes, message):
    with pytest.raises(HyLoRADAError, match=message):
        step(sequences(4), collate=lambda items: makes)


def test_data_are_looked_at_once_however_many_checkpoints(tmp_path):
    asked = []

    class Counted(list):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    config = TrainingConfig(batch_size=1, num_epochs=2, checkpoint_every=1)
    HyLoRADATrainer(adapt(llama(), QUIET), config, Counted(sequences(3)), tmp_path, progress=False).train()
    assert len(asked) == 3 + 2 * 3  # once before the first step, and then to train


@pytest.mark.parametrize("other", [[[1, 2], [3]], [[1], [2, 3, 4]], [[1, 2], [3, 5]], [[1, 2, 3, 4]]], ids=str)
def test_a_digest_tells_data_apart_and_not_the_form_they_come_in(other):
    limits = Limits(97, None)
    rows = [{"input_ids": [1, 2]}, {"input_ids": [3, 4]}]
    as_tensors = [{"input_ids": torch.tensor(row["input_ids"])} for row in rows]
    wanted = survey("data", rows, limits).digest
    assert survey("data", as_tensors, limits).digest == wanted
    assert survey("data", [{"input_ids": ids} for ids in other], limits).digest != wanted
    assert survey("data", [row | {"labels": row["input_ids"]} for row in rows], limits).digest != wanted


def test_padding_to_the_right_of_rows_of_which_some_have_positions():
    batch = pad_right([{"input_ids": [5, 6, 7], "position_ids": [4, 5, 6]}, {"input_ids": [8]}])
    assert batch["position_ids"].tolist() == [[4, 5, 6], [0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
