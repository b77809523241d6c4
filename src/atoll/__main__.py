"""``python -m atoll`` is the ``atoll`` command."""

from atoll.cli.main import main

if __name__ == "__main__":
    main()
