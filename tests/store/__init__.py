"""What the store promises: nothing lost, nothing half, nothing altered unseen."""
