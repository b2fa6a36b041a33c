"""Sentences of the paper, whose words the numbers choose."""
