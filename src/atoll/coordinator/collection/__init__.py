"""Collection: deletions reach the nodes, however long a node is away."""
