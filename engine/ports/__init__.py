"""What services and clients ask of the outside world: one protocol a file, with its messages. Adapters fulfil them."""
