"""``python -m gradood``, where the ``gradood`` script is not on the path."""

import sys

from gradood.cli import main

if __name__ == "__main__":
    sys.exit(main())
