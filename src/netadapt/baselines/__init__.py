"""What NetAdapt is compared with, with the same inputs and outputs as the algorithm."""
