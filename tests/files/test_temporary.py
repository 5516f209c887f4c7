from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("ending", "code"), [("temporary.end(3)", 3), ("pass", 0)])
def test_folders_are_removed_and_output_is_written_whichever_way_the_process_ends(
    tmp_path: Path, ending: str, code: int
) -> None:
    script = f"""
import sys, tempfile
from gpt2dsl.files import temporary
tempfile.tempdir = {str(tmp_path)!r}
print(temporary.folder("one-"), temporary.folder("two-"), end="")
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
    names = [Path(name).name[:4] for name in done.stdout.split()]
    assert names == ["one-", "two-"]
    assert list(tmp_path.iterdir()) == []
