"""One file for each revision. What a release has shipped is never changed here: ledgers were made with it."""
