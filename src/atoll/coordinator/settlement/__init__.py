"""The way of epochs to the chain: signed by verifiers, proposed, final, claimed."""
