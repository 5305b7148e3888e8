"""``python -m filterwatch`` is the ``filterwatch`` command."""

from filterwatch.cli import main

if __name__ == "__main__":
    main()
