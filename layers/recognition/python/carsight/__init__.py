"""Pixels in, readings out: ``plates.PlateRecognizer`` and ``vins.VinRecognizer``.

Both are made once by ``load()``, read with ``read(image)``, and are safe to call from many threads.
Nothing here knows of HTTP or AWS.
"""
