"""`kephs demo`: the main job end to end, on this machine, with TEST certificates."""

from kephs.cli.demo.command import command as command
