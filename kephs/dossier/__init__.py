"""The court dossier (Dava dosyası): one message as a PDF/A-3 that a judge can read and check.

`facts` is what it says, `content` reads the original, `texts` has the words, `pages` lays it out as HTML,
`pdf` prints that with WeasyPrint and `embedding` writes the file with everything attached.
"""
