"""Commands of those who hold ATOLL: each says what can be lost before it is done."""
