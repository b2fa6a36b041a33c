"""Say at the end of `make paper` where the full answer stands, in one line where there is one.

`python tools/full_answer.py [scale=NAME] [records=FOLDER]`: the settings that the workflow was called with.
"""

import sys
from pathlib import Path

from hylorada.errors import HyLoRADAError
from hylorada.study.records.kept import full_answer, kept_scale, largest_kept

if __name__ == "__main__":
    asked = dict(word.split("=", 1) for word in sys.argv[1:])
    try:
        scale = asked.get("scale") or kept_scale(largest_kept(Path(asked["records"])))
        if told := full_answer(scale):
            print(told)
    except HyLoRADAError as error:
        sys.exit(f"full_answer: {error}")
