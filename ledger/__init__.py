"""What is agreed on: identities, transactions, blocks, state, execution, reputation, the store."""
