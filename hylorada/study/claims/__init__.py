"""The published statements, and what settles each."""
