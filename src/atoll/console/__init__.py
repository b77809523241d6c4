"""The live page: what runs, what is lost, what heals."""
