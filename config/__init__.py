"""Settings: typed, frozen, described; read here and nowhere else."""
