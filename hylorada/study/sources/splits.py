"""The parts of every corpus. Imports nothing: identities read it without numpy, runs without the table of sources."""

SPLITS = ("train", "validation", "test")
