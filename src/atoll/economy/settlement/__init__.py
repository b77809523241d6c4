"""What an epoch owes whom: computed, committed to one root, provable line by line."""
