"""What all workers agree on: one small database, its leases, and who died."""
