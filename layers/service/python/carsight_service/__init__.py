"""Carsight's service: HTTP and AWS around the recognisers. It touches no pixel and never imports OpenCV."""
