"""The command line: one module a command, imported when it is called."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
import traceback
from typing import Any

import click

from edgepatch import __version__
from edgepatch.errors import EdgepatchError, UsageError

COMMANDS = (
    "backbone",
    "train",
    "train-many",
    "calibrate",
    "enroll",
    "export",
    "bake",
    "run",
    "eval",
    "bench",
    "soak",
    "inspect",
    "verify",
    "store",
    "publish",
    "update",
    "demo",
)


class Commands(click.Group):
    """The commands, each in the module of its name, with _ for -."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edgepatch.cli.{name.replace('-', '_')}").command
        return command

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            raise click.UsageError(
                f"No such command '{args[0]}'." + (f" Did you mean '{near[0]}'?" if near else ""), context
            )
        return super().resolve_command(context, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgepatch")
def group() -> None:
    """Store one MobileNet, run any number of vision tasks by loading kilobytes.

    \b
    edgepatch backbone create mobilenet_v2 --size 96 --out mobilenet.backbone
    edgepatch train mobilenet.backbone photos/ --patch scale_bias --out flowers.epatch
    edgepatch export mobilenet.backbone --to tflite --out mobilenet.tflite
    edgepatch run mobilenet.tflite --patch flowers.epatch picture.jpg

    Every command takes --json: one JSON document on stdout, progress on stderr. Exit codes: 0 done, 1 failed, 2 usage,
    3 bad file, 4 wrong backbone or graph, 5 something to install.
    """


def main(arguments: list[str] | None = None) -> None:
    """The console script: runs a command, and turns errors into messages and exit codes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        code = group.main(arguments, prog_name="edgepatch", standalone_mode=False)
    except EdgepatchError as error:
        code = _fail(error, as_json)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        mend = f"Try '{context.command_path} --help'." if context else None
        code = _fail(UsageError(error.format_message(), mend=mend), as_json)
    except (click.Abort, KeyboardInterrupt):
        code = _fail(EdgepatchError("interrupted"), as_json)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        traceback.print_exc()
        code = _fail(EdgepatchError(f"{type(error).__name__}: {error}", mend="This is a bug in edgepatch."), as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: EdgepatchError, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(error.to_json()))
    else:
        click.echo(f"edgepatch: {error}", err=True)
    return error.exit_code
