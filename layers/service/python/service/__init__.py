"""Carsight's service: HTTP and AWS around the recognisers. It never touches a pixel and never imports OpenCV."""
