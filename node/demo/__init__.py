"""The OTC demonstration: real people's ratings replayed through a live four-validator network."""
