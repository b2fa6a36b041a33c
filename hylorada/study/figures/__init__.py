"""Frames in, `Figure` out; figures are rows of data."""
