"""What the verbs of the command line do; `hylorada.cli` describes them."""
