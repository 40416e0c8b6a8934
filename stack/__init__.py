"""What starts and keeps the stack of docker-compose.yaml on one host; it knows no flights. Of `utils` it imports settings and errors."""
