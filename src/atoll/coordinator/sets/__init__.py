"""Sets: exactly which pieces each node is held to, told to the node, agreed to the byte."""
