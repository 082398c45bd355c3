"""What the gateway says to a client and to a proxy. Pure: events in, commands out."""
