"""Starting a job: which MPI there is, what its command line is, and which cores each rank gets."""
