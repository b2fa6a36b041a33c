"""What verbs share: the scale's settings, and where progress is told."""

import argparse
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hylorada.study.plan.settings import Settings


def settings_of(options: argparse.Namespace) -> "Settings":
    """Return the scale's settings with what --set replaces in them."""
    from hylorada.study.plan.scales import load_settings, read_changes

    return load_settings(options.scale, read_changes(options.set))


def log_to_stderr(quiet: bool) -> None:
    """Send what is told to standard error, progress lines only where they are wanted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("hylorada").setLevel(logging.WARNING if quiet else logging.INFO)
