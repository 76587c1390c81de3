"""Between providers: handing over, taking in, giving up, the queue."""
