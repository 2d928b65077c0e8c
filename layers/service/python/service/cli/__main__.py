"""``python -m service.cli``: the ``carsight`` command without an installed script."""

import sys

from service.cli import main

sys.exit(main())
