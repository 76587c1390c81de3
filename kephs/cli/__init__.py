"""The command line. Each command is a module that `kephs.cli.main` names, loaded when it is called.

Here stand that table and what commands of several folders share: results, errors and exit codes (`output`),
findings with their cure (`findings`), an instance to be made (`instance`), seen beside its running server
(`beside`), with its parts opened on demand (`workbench`). Below, by subject:

    archive/   kephs archive, hold: twenty years; content that nobody's deletion destroys
    demo/      kephs demo: the main job end to end, with TEST certificates
    health/    kephs doctor, fsck, probe, bench: is the instance well, whole, reachable, fast
    people/    kephs account: accounts, operators, app passwords, certificates
    proof/     kephs show, bundle, dossier, export, verify: what a message proves, here and offline
    providers/ kephs peers, queue, hand-over, take-over: other providers
    record/    kephs ledger, audit: the evidence ledger in public, the process record
    run/       kephs init, migrate, serve, and the processes beside the server (signer, test-pki)
    sign/      kephs sign: a holder's signature, by key file or card
    trust/     kephs trust: whom the server believes
"""
