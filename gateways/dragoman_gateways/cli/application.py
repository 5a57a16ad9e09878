"""The root command: global options, commands loaded when they are called, failures in one place."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import click

from dragoman_gateways.cli.exit_codes import EXIT_CODE_HELP, ExitCode
from dragoman_gateways.cli.settings import Settings

__all__ = ["cli"]

COMMANDS = (
    "up",
    "run",
    "supervise",
    "ask",
    "task",
    "dlq",
    "ls",
    "models",
    "learn",
    "watch",
    "validate",
    "schema",
    "permissions",
    "init",
    "demo",
    "completion",
)

Function = TypeVar("Function", bound=Callable[..., Any])


class LazyGroup(click.Group):
    """A group whose commands are modules of ``commands``, imported when they are needed."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit; wrong usage is told as JSON to a program that asked for JSON."""
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.Abort:
            code = ExitCode.INTERRUPTED
        except click.ClickException as error:
            if not standalone_mode:
                raise
            code = _report_usage(error, sys.argv[1:] if args is None else args)
        return sys.exit(code) if standalone_mode else code

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dragoman_gateways.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it returns or raises becomes the exit code."""
        try:
            outcome = super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The reader (head, less) has seen enough; the interpreter must not complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(ExitCode.OK)
        except (KeyboardInterrupt, asyncio.CancelledError):
            ctx.exit(ExitCode.INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - the last place that can tell the user
            from dragoman_gateways.cli.failures import report_failure

            ctx.exit(report_failure(error, ctx.ensure_object(Settings)))
        else:
            ctx.exit(outcome if isinstance(outcome, int) else ExitCode.OK)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Exit codes below the list of commands."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), text) for code, text in EXIT_CODE_HELP.items()])
        formatter.write_paragraph()
        formatter.write_text("Start with `dragoman demo`, then `dragoman init` and `dragoman up`.")


def _report_usage(error: click.ClickException, arguments: Sequence[str]) -> int:
    """Tell what is wrong with ``arguments``, which may not have been read as far as ``--json``."""
    if "--json" in takewhile(lambda argument: argument != "--", arguments):
        from dragoman_gateways.cli.failures import report_usage

        return report_usage(error)
    error.show()
    return error.exit_code


def _version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    from dragoman_bus.protocol.versions import SUPPORTED_VERSIONS

    try:
        release = version("dragoman")
    except PackageNotFoundError:
        release = "(a checkout)"
    click.echo(f"dragoman {release}, protocol {', '.join(SUPPORTED_VERSIONS)}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--server",
    metavar="URL",
    envvar=["DRAGOMAN_SERVER", "NATS_URL"],
    show_envvar=True,
    help="NATS server, or several with commas between.",
)
@click.option(
    "--config",
    "configuration",
    metavar="FILE",
    envvar="DRAGOMAN_CONFIG",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Configuration file; default dragoman.toml when it is here.",
)
@click.option("--debug", is_flag=True, help="Show logs and, for failures, tracebacks.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the versions of Dragoman and of the protocol.",
)
@click.pass_context
def cli(ctx: click.Context, server: str | None, configuration: Path | None, debug: bool) -> None:
    """Agents on different language models find each other and share work, over NATS."""
    ctx.obj = Settings(server=server or None, configuration=configuration, debug=debug)
    from dragoman_gateways.cli.logs import configure_logs

    configure_logs(debug)
