"""What providers earn and how they are paid: figures, storage at par, euros by bank."""
