"""How the ledger is seen by people who ask about it."""
