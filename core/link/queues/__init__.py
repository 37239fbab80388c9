"""Queue disciplines, one a file. Used by link alone, and uses what link uses."""
