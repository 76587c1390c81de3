"""Work that is due: the lanes, and the loop that runs them."""
