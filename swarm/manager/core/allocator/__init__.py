"""What is handed out once in a cluster: published ports."""
