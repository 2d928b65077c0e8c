"""What callers see: answers and errors, as CarsXE words them."""
