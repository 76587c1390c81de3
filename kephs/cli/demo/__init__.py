"""`kephs demo`: the main job end to end, on this machine, with TEST certificates."""
