"""docs/reliability.md: what a soak found, written from nothing else."""

from collections import Counter
from collections.abc import Mapping

HEAD = """\
# What happens to it, and what it then does

`make soak` wrote this page; `tests/soak` is what it did. Three campaigns, each case in a process of its own:

- **Struck** (killed, disk full): a verb that writes is ended by `kill -9`, or finds the disk full, at one of its
  file-system events. A full disk must be one line and exit status 2; done again, the same command must end in the bytes
  of one that was not struck.
- **Reads**: one file that a command reads is damaged (a bit flipped, cut in half, emptied, a folder in its place, `{}`,
  `[]`, `null`, bytes that are no UTF-8). The command must say so on one line, or give the answer of the whole file.
- **What is typed**: settings, configurations of an adapter, command lines and data sets, made up by hypothesis. Each
  must be taken, or refused on one line.

Times, dates and what is of the moment in a record are left out where bytes are compared.

"""


def text(found: Mapping[tuple[str, str], str], every: int, examples: int) -> str:
    """Return the page. found: what was found by campaign and case; every, examples: how thorough the soak was."""
    cases, wrong = (
        Counter(campaign for campaign, _ in found),
        Counter(campaign for (campaign, _), said in found.items() if said),
    )
    some = "every case" if every == 1 else f"one in {every} of the cases, evenly"
    lines = [f"This time: {some}, and {examples:,} examples of each thing typed.", ""]
    lines += ["| campaign | cases | as they must be | not |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {name} | {count} | {count - wrong[name]} | {wrong[name]} |" for name, count in cases.items()]
    total = sum(wrong.values())
    lines += [f"| all | {len(found)} | {len(found) - total} | {total} |", ""]
    if total:
        lines += ["## Not as they must be", ""]
        lines += [f"- {campaign}, {case}: {said}" for (campaign, case), said in found.items() if said]
        lines.append("")
    return HEAD + "\n".join(lines)
