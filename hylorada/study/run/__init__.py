"""Making a run: following a protocol, training, scoring, and the record of it."""
