"""What starts and keeps the stack of docker-compose.yaml on one host. Of `utils` it imports settings and errors."""
