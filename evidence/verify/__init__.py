"""One entrance for strangers: what is it, and does it hold?"""
