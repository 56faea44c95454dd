"""`python -m palimpsest` is the command `palimpsest`."""

from palimpsest.cli import main

if __name__ == "__main__":
    main(prog_name="palimpsest")
