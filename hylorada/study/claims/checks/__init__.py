"""The ways of looking at a published statement."""
