"""`python -m lossbook.cli`: the command `lossbook` where it is not on the path."""

import sys

from lossbook.cli import main

if __name__ == "__main__":
    sys.exit(main())
