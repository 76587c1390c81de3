"""Other providers: the register, what is on its way to them, handing over and taking over."""
