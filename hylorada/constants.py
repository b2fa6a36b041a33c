"""Numbers of the method that no setting changes, where the paper can read them without torch."""

BLEND_AT_START = 0.1  # beta of a gated magnitude before training
LANDMARK_STD = 0.02  # of landmarks and their gates before training
LANDMARK_SCALE = 0.1  # of what landmarks add, before training
PER_LAYER_SCALE = 0.05  # the same of landmarks after every block
BOUNDARY_TEMPERATURE = 0.1  # of learned boundaries, in shares of the length
