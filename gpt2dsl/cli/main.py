"""The command group, with error handling and exit codes common to all commands."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from typing import NoReturn

import click
from typing_extensions import override

from gpt2dsl import signals, terminal
from gpt2dsl.errors import Gpt2DslError, SpecError, did_you_mean
from gpt2dsl.files import temporary

COMMANDS = {
    "run": "plan, show and run a recipe",
    "plan": "show what a recipe would do",
    "check": "print every fault in recipes",
    "show": "print a recipe as TOML or Python",
    "new": "create a package for recipes of your own",
    "import": "convert a MindFormers configuration or command line to a recipe",
    "list": "list the recipes of the library",
    "runs": "list the runs in a folder: state, steps, loss, speed",
    "diff": "compare recipes, plans or runs",
    "generate": "continue texts",
    "serve": "serve completions and chats over OpenAI's API",
    "classify": "classify texts",
    "inspect": "describe weights: format, size, missing tensors",
    "convert": "convert weights from one format to another",
    "reshard": "convert a checkpoint to another parallel layout",
    "export": "export graphs for deployment: MindIR, ONNX, MindSpore Lite",
    "lite": "set up MindSpore Lite; generate with exported graphs",
    "data": "prepare data: convert texts to MindRecord",
    "tokenizer": "train a vocabulary",
    "fetch": "download published weights from the Hugging Face Hub",
    "doctor": "check this machine and suggest remedies",
    "launch": "run a recipe on several machines, over ssh",
    "ranktable": "generate or merge rank tables of Ascend servers",
}
"""Name → summary; the module gpt2dsl.cli.<name> is imported when the command is called."""


class _Commands(click.Group):
    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"gpt2dsl.cli.{name}").command
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    @override
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            from gpt2dsl.cli import words  # noqa: PLC0415  # needed for errors only

            raise words.suggested(error) from None
        except SpecError as error:
            from gpt2dsl.cli import words  # noqa: PLC0415  # needed for errors only

            raise words.translated(error, self._called(ctx)) from error

    def _called(self, ctx: click.Context) -> click.Command:
        """Return the command that was called, within a group if it is one."""
        command: click.Command = self
        for word in (ctx.invoked_subcommand, *sys.argv[1:]):
            if isinstance(command, click.Group) and word:
                command = command.get_command(ctx, word) or command
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
@click.version_option(package_name="gpt2dsl")
def cli() -> None:
    """Typed recipes that train, evaluate and generate with GPT-2 on MindSpore.

    SPEC is a .toml file, module:name, or the name of a recipe of the library.
    Results go to stdout, progress to stderr. Exit codes: 0 success, 1 the run failed, 2 the spec,
    the command or an input is wrong, 3 another process works in the run's directory.
    """


def main() -> NoReturn:
    """Run the command line and exit, without a traceback unless ``--debug`` is given."""
    threads = set(threading.enumerate())
    signals.are_ctrl_c()  # a cluster that ends a job gets the same cleanup as Ctrl-C
    with terminal.prepared() as output:
        code = _run(output)
    if any(thread.name == signals.COMPUTING for thread in set(threading.enumerate()) - threads):
        temporary.end(code)
    sys.exit(code)


def _run(output: terminal.Output) -> int:
    """Run the command line, print errors, and return the exit code."""
    try:
        code = cli.main(standalone_mode=False) or 0
        output.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        terminal.say("interrupted")
        code = 1
    except Gpt2DslError as error:
        _show_where()
        terminal.say(_text(error))
        code = error.exit_code
    except BrokenPipeError:
        code = 1  # the reader of stdout is gone, so no message can reach it
    except Exception as error:  # noqa: BLE001  # an internal error is one line too
        _show_where()
        if signals.have_interrupted():  # what a library's import makes of KeyboardInterrupt
            terminal.say("interrupted")
        else:
            terminal.say(f"{type(error).__name__}: {error}")
            terminal.say("This is a fault of gpt2dsl; --debug shows where.")
        code = 1
    return code if isinstance(code, int) else 0


def _show_where() -> None:
    """Print the traceback of the current exception if ``--debug`` is given."""
    if "--debug" in sys.argv:
        traceback.print_exc()


def _text(error: Gpt2DslError) -> str:
    from gpt2dsl.cli import words  # noqa: PLC0415  # needed for errors only

    if isinstance(error, SpecError) and len(error.faults) > 1:
        from gpt2dsl.spec.report import report  # noqa: PLC0415  # needed for errors only

        return words.as_called(report(error.faults))
    return words.as_called(str(error))
