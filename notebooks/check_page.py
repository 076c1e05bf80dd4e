#!/usr/bin/env python3
"""Runs the code blocks of a Markdown page in order, in an empty folder: `python` blocks in one process, `sh` blocks in a shell.

    cargo build && PATH="$PWD/target/debug:$PATH" python notebooks/check_page.py notebooks/transformer_lens.md
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def main():
    page = Path(sys.argv[1]).resolve()
    text = page.read_text(encoding="utf-8")
    names = {"__name__": "__main__"}
    blocks = list(re.finditer(r"^```(python|sh)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    if not blocks:
        sys.exit(f"{page}: there is no block of Python or shell on it")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for block in blocks:
            line = text.count("\n", 0, block.start()) + 2
            language, code = block.groups()
            print(f"{page.name}:{line}: {language}", flush=True)
            if language == "sh":
                subprocess.run(["sh", "-e", "-c", code], check=True)
            else:
                # Empty lines in front, so that errors name the line on the page.
                exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)


if __name__ == "__main__":
    main()
