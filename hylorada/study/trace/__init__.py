"""Where a file, a claim or a run comes from."""
