"""``python -m zero123`` is the command line."""

from zero123.app.cli import main

if __name__ == "__main__":
    main()
