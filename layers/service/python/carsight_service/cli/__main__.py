"""``python -m carsight_service.cli``: the ``carsight`` command without an installed script."""

import sys

from carsight_service.cli import main

sys.exit(main())
