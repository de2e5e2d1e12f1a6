"""What ``make`` runs around the server: the checks, the builds, the starter model and the generated files."""
