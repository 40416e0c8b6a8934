"""Start and maintain the stack of docker-compose.yaml on one host. Imports only settings and errors of `utils`."""
