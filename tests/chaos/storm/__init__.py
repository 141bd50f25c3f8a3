"""A storm: engines under load, and everything done to them and to their Redis at random moments; then the ledger."""
