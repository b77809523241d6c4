"""A verifier: checks what nodes prove, signs what it saw, shows it to everybody."""
