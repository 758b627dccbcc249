"""`python -m mergekit_nb` is `mergekit-nb`."""

import sys

from mergekit_nb.cli import main

if __name__ == "__main__":
    sys.exit(main())
