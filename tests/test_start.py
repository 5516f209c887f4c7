"""Ctrl-C while the command is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == MOMENT:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise ERROR from error

sys.meta_path.insert(0, Finder())
sys.argv = [PROGRAM, "list"]
from gpt2dsl.cli.main import main
main()
"""


def interrupted(
    moment: str, error: str = "KeyboardInterrupt", program: str = "/bin/gpt2dsl"
) -> tuple[int, str]:
    """Code and stderr of the command, if Ctrl-C comes as a module is imported.

    Args:
        moment: the module.
        error: what its import makes of KeyboardInterrupt.
        program: the name of the program.
    """
    values = f"MOMENT, PROGRAM, ERROR = {moment!r}, {program!r}, {error}\n"
    done = subprocess.run(
        [sys.executable, "-c", values + _SCRIPT], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("moment", ["gpt2dsl.chain", "gpt2dsl.recipe", "click", "gpt2dsl.cli.list"])
def test_ctrl_c_while_the_command_is_imported_is_one_line(moment: str) -> None:
    code, said = interrupted(moment)
    assert (code, said.strip()) == (1, "interrupted")


def test_an_import_that_makes_another_error_of_ctrl_c_is_no_fault() -> None:
    code, said = interrupted("gpt2dsl.cli.list", "ImportError('initialization failed')")
    assert (code, said) == (1, "interrupted\n")


def test_programs_that_import_the_package_keep_their_own_handler() -> None:
    code, said = interrupted("gpt2dsl.chain", program="/bin/mine")
    assert code != 0
    assert said.endswith("KeyboardInterrupt\n")
