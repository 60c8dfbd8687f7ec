"""Registration: from the files of a workspace to one model version and its row in the ledger."""
