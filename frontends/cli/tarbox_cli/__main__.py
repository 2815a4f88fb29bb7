"""`python -m tarbox_cli`."""

import sys

from tarbox_cli.main import main

sys.exit(main())
