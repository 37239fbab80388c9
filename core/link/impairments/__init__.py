"""What a link does to packets, one a file. Used by link alone, and uses what link uses."""
