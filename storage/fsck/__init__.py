"""Does every state have its evidence, every evidence its bytes, the ledger its root?"""
