"""Evidence: records, serialisation, signatures, time stamps and their verification.

A library of its own: it knows nothing of kephs, and a court's verifier could ship it without the server.
"""
