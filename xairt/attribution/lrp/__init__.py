"""Layer-wise relevance propagation: rules as data, one engine, the methods."""
