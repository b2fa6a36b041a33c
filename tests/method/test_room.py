"""An adapter that the memory cannot hold is told in a line, before any of it is given."""

import pytest
import torch
from bases import FAMILIES, families, llama, tokens

from hylorada import HyLoRADAConfig, HyLoRADAError, HyLoRADAModel, room
from hylorada.layer_choice import chosen_layers

BY_PLACE = "num_landmarks and num_position_buckets"


def needed_by(base, config: HyLoRADAConfig) -> dict[str, int]:
    """Bytes by setting, for the layers that the configuration chooses and 64 positions."""
    return room.bytes_by_setting(base, config, chosen_layers(base, config), 64)


@families
def test_what_is_counted_is_what_is_made(family):
    """Bytes of float32, by the parameters themselves; gates are there twice while they are made."""
    config = HyLoRADAConfig(
        sparse_enabled=True, rank_pattern={r".*\.1\..*": 3}, lora_rank=5, num_landmarks=6, num_position_buckets=7
    )
    needs = needed_by(FAMILIES[family](), config)
    counts = HyLoRADAModel(FAMILIES[family](), config).count_params()
    assert needs["lora_rank"] == 4 * counts["lora"] > 0
    assert needs["sparse_bottleneck"] == 4 * counts["sparse"] > 0
    assert needs[BY_PLACE] == 2 * 4 * 6 * 7
    assert needs["num_landmarks"] + 4 * 6 * 7 == 4 * (counts["landmark"] - 1)  # but for the scale
    assert needs["max_positions"] == 64 * 32


@pytest.mark.parametrize(
    ("design", "other"), [("original", 1), ("per_layer", 2), ("learnable_bucket", 32), ("constant", 0)]
)
def test_every_design_of_landmarks_is_counted_but_for_a_number_or_two_a_layer(design, other):
    config = HyLoRADAConfig(landmark_design=design, position_bias_enabled=False)
    needs, counts = needed_by(llama(), config), HyLoRADAModel(llama(), config).count_params()
    counted = needs.get("num_landmarks", 0) + needs.get(BY_PLACE, 0) // 2
    assert counted == 4 * (counts["landmark"] - other) * (design != "constant")
    assert needs["max_positions"] == 0


def test_the_start_of_pissa_is_kept_beside_what_trains():
    model = HyLoRADAModel(llama(), config := HyLoRADAConfig(init_lora_weights="pissa"))
    numbers = sum(tensor.numel() for name, tensor in model.named_parameters() if ".lora." in name)
    assert needed_by(llama(), config)["lora_rank"] == 4 * numbers


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            dict(num_landmarks=2**17, num_position_buckets=2**24),
            "takes 16,384.0 GiB, 16,384.0 of it by num_landmarks and",
        ),
        (dict(sparse_enabled=True, sparse_bottleneck=2**20), "GiB are free on cpu; lower sparse_bottleneck."),
        (dict(max_positions=2**31 - 1), "64.0 of it by max_positions"),
    ],
)
def test_sizes_within_their_limits_and_beyond_the_memory_are_refused_and_the_base_stays(settings, told, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device: 2**28)
    base, ids = llama(), tokens()
    with pytest.raises(HyLoRADAError) as refused:
        HyLoRADAModel(base, HyLoRADAConfig(**settings))
    assert told in str(refused.value) and "\n" not in str(refused.value)
    assert torch.equal(base(ids).logits, llama()(ids).logits)


def test_no_machine_has_the_memory_of_the_largest_tables():
    with pytest.raises(HyLoRADAError, match="lower num_landmarks and num_position_buckets"):
        HyLoRADAModel(llama(), HyLoRADAConfig(num_landmarks=2**17, num_position_buckets=2**24))


def test_the_last_byte_decides_and_memory_that_cannot_be_told_stops_nobody(monkeypatch):
    needed = sum(needed_by(llama(), HyLoRADAConfig()).values())
    for free, fits in ((needed, True), (needed - 1, False), (None, True)):
        monkeypatch.setattr(room, "free_bytes", lambda device, free=free: free)
        try:
            HyLoRADAModel(llama(), HyLoRADAConfig())
        except HyLoRADAError as error:
            assert not fits and "the adapter takes" in str(error)
        else:
            assert fits


def test_what_stands_in_the_way_of_layers_is_told_where_they_are_made():
    with pytest.raises(HyLoRADAError, match="'no_layer' matches no layer"):
        HyLoRADAModel(llama(), HyLoRADAConfig(lora_target_modules=["no_layer"]))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 900 KiB free and 100 of swap; returns what writes a file of its control groups."""
    for name in ("MEMINFO", "OWN_GROUPS", "GROUPS"):
        monkeypatch.setattr(room, name, tmp_path / name)
    (tmp_path / "MEMINFO").write_text("MemTotal: 2000 kB\nMemAvailable: 900 kB\nSwapFree: 100 kB\nHugePages_Total: 0\n")

    def write(place: str, content: object) -> None:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")

    return write


CPU = torch.device("cpu")


def test_without_groups_the_system_tells_what_is_free_and_without_it_nothing(machine):
    assert room.free_bytes(CPU) == 1000 * 1024
    machine("MEMINFO", "MemTotal: 2000 kB")
    assert room.free_bytes(CPU) is None
    machine("MEMINFO", "")
    assert room.free_bytes(CPU) is None
    assert room.free_bytes(torch.device("meta")) is None


@pytest.mark.parametrize("place", ["outer/inner", ""])  # in a container the path may be one that it does not see
def test_the_narrowest_group_decides_and_files_in_memory_can_be_had_back(machine, place):
    machine("OWN_GROUPS", "0::/outer/inner")
    for folder, limit in ((f"GROUPS/{place}", "max"), ("GROUPS/outer" if place else "GROUPS", 700_000)):
        machine(f"{folder}/memory.max", limit)
        machine(f"{folder}/memory.current", 500_000)
        machine(f"{folder}/memory.stat", "anon 300000\nfile 200000\nshmem 50000")
    assert room.free_bytes(CPU) == 700_000 - 500_000 + 200_000 - 50_000


def test_groups_of_the_first_version_are_read_with_what_is_below_them(machine):
    machine("OWN_GROUPS", "5:cpuset:/\n4:memory:/job\n0::/")
    machine("GROUPS/memory/job/memory.limit_in_bytes", 600_000)
    machine("GROUPS/memory/job/memory.usage_in_bytes", 400_000)
    machine("GROUPS/memory/job/memory.stat", "cache 0\nshmem 0\ntotal_cache 100000\ntotal_shmem 25000")
    machine("GROUPS/memory/memory.limit_in_bytes", 2**63 - 4096)
    assert room.free_bytes(CPU) == 600_000 - 400_000 + 100_000 - 25_000
