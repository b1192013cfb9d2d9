"""What leaves: exported models, repositories on the hub, the server, the demo."""
