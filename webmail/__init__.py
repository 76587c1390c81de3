"""The web edge (webmail, REST, SOAP). Not built yet: README says what is."""
