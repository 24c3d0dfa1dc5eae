"""``python -m automix_eval`` is ``automix-eval``."""

import sys

from automix_eval.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
