"""``python -m aiplat``: the command line."""

import sys

from aiplat.frontends.cli import main

sys.exit(main())
