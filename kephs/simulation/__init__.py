"""Twenty years of an archive on a moving clock, with a simulated PKI (`kephs archive simulate`)."""
