"""Groups whose name alone does the main thing."""

import click


class DefaultMake(click.Group):
    """Takes ``kephs NAME DIR ...`` as ``kephs NAME make DIR ...``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant."""
        if args and args[0] not in self.commands:
            args = ["make", *args]
        return super().resolve_command(ctx, args)
