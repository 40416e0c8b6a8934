"""Run the command line `python -m utils`."""

from utils.cli.app import main

if __name__ == "__main__":
    main()
