"""`python -m utils`: runs the command line of `utils.cli`."""

from utils.cli.app import main

if __name__ == "__main__":
    main()
