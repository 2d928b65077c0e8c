"""Carsight's service: HTTP and AWS around the recognizers. It handles no pixels and never imports OpenCV."""
