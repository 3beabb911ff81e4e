"""What a block does to the state: one module per transaction family, one table, one function."""
