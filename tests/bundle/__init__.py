"""What is served: rows held against the contract, steps, bytes verified, rows run through."""
