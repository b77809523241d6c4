"""The market: what providers post, what each class of storage costs, what a price would bring."""
