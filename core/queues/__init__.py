"""Queue disciplines of a pipe, one a room; `discipline.pxd` knows them all."""
