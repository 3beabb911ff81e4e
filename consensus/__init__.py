"""How it is agreed: the engine contract, PBFT, the journal, sync and the driver."""
