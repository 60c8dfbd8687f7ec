"""The ledger's tables through the releases: what each revision changed, run by flows/ledger/migrate.py."""
