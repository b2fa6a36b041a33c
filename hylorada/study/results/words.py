"""Numbers, counts and lists in words: plain text, which the page shows as it is and `paper.latex` sets.

A minus sign is a true one, and the spaces before a percent sign and between thousands do not break.
"""

import re
from collections.abc import Iterable

COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
MINUS, SPACE, NARROW_SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def fixed(value: float, decimals: int = 2, plus: bool = False) -> str:
    """Return a number at so many decimals; zero has no sign. plus: numbers above zero have one."""
    text = f"{abs(value):.{decimals}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+" * plus) + text


def percentage(value: float, decimals: int = 2, plus: bool = False) -> str:
    """Return a percentage with its sign."""
    return f"{fixed(value, decimals, plus)}{SPACE}%"


def share_text(value: float) -> str:
    """Return a share as a percentage, whole from ten percent on."""
    return percentage(100 * value, 0 if abs(value) >= 0.1 else 1)


def span(low: float, high: float, decimals: int = 2) -> str:
    """Return an interval."""
    return f"{fixed(low, decimals)} to {fixed(high, decimals)}"


def thousands(number: int) -> str:
    """Return a whole number, a space between thousands."""
    return f"{number:,}".replace(",", NARROW_SPACE)


def scientific(value: float) -> str:
    """Return a positive number as three digits at most and a power of ten, as 5·10⁻⁴; zero is zero."""
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}·10{str(int(power)).translate(RAISED)}" if value else "0"


def count(number: int) -> str:
    """Return a small number as a word."""
    return COUNTS[number] if number < len(COUNTS) else str(number)


def plural(thing: str, number: int) -> str:
    """Return what so many of a thing are called."""
    return thing + "s" * (number != 1)


def joined(parts: Iterable[str]) -> str:
    """Return a list in words."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def why_none(seeds: int) -> str:
    """Say what a comparison of so many seeds lacks for an interval."""
    return "one seed" if seeds < 2 else "few articles"


def with_true_minus(text: str) -> str:
    """Return a text typed with hyphens, with minus signs before its negative numbers and between numbers."""
    return re.sub(r"(?<=\d) - (?=\d)", f" {MINUS} ", re.sub(r"(^|[ (])-(?=\d)", rf"\1{MINUS}", text))
