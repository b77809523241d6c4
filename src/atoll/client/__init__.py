"""The way of the data: encrypt, encode, place, transfer; and the SDK."""
