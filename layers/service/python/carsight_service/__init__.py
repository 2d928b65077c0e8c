"""Carsight's service: HTTP and AWS around the recognizers. It touches no pixel and never imports OpenCV."""
