"""`tracking completion`: the script that completes this command in a shell."""

from __future__ import annotations

import click


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def verb(ctx: click.Context, shell: str) -> None:
    """Print the script that completes verbs, options and ids of runs.

    \b
    ~/.bashrc:  eval "$(tracking completion bash)"
    ~/.zshrc:   eval "$(tracking completion zsh)"
    fish:       tracking completion fish > ~/.config/fish/completions/tracking.fish
    """  # noqa: D301 - click wants the character itself, which keeps the lines apart
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # Its base knows the variables; what the classes check beyond, such as the version of bash, is for their own use.
    completion = kind(ctx.find_root().command, {}, "tracking", "_TRACKING_COMPLETE")
    click.echo(completion.source_template % completion.source_vars())
