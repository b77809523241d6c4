"""Where data may lie, in a small language: ``model`` says what it means, ``text`` reads it."""
