"""What a score means and how it is computed: edges, trust, quality, the tree of scores."""
