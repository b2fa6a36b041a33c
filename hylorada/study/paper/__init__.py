"""The results as LaTeX, and the paper compiled from it."""
