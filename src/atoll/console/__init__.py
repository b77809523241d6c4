"""The console: what a cloud looks like, on a page and in a terminal.

``rules`` turns a ``CloudStatus`` into words and figures (``model``), for the page and for
``atoll status`` alike. ``feed`` asks the coordinator while somebody looks. ``app`` serves the page.
"""
