"""From records to numbers and frames; no LaTeX, no sentences."""
