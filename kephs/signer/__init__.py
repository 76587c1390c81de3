"""The signer: the process that holds the key, and its client.

`kephs.signer.wire` is what they say to each other, `client` the `evidence.ports.Sealing` of the main process,
`server` the other end, with the checks of what it is asked to sign.
"""
