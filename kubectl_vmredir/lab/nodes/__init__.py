"""What a node of the lab runs: virt-handler's streams, and the steps of a migration."""
