"""What the verbs of the command line do; `parser` describes them."""
