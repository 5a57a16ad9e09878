"""``dragoman completion``: the script that teaches a shell to complete ``dragoman``."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Write the completion script of a shell to standard output.

    \b
    bash  eval "$(dragoman completion bash)"                           in ~/.bashrc
    zsh   eval "$(dragoman completion zsh)"                            in ~/.zshrc
    fish  dragoman completion fish > ~/.config/fish/completions/dragoman.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}")
    # Not `.source()` of bash: it runs bash to look at its version, which may be absent here.
    completion = kind(ctx.find_root().command, {}, "dragoman", "_DRAGOMAN_COMPLETE")
    click.echo(completion.source_template % completion.source_vars())
