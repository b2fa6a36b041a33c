"""`python -m hylorada` is the `hylorada` command."""

import sys

from hylorada.cli import main

sys.exit(main())
