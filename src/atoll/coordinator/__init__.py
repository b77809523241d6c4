"""The coordinator: facts, judgements and actions of one cloud over one SQL database."""
