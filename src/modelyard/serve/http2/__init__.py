"""HTTP/2: frames, header blocks, streams, flow control."""
