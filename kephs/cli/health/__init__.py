"""Is the instance well: doctor, fsck, a probe through the public ports, benchmarks."""
