"""Small segments merged into packs, and read out of them."""
