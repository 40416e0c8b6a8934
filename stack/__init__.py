"""What starts and keeps the stack of docker-compose.yaml on one host; it knows no flights and is no part of `utils`."""
